//! The search list of a pod's resolver.

use alloc::vec::Vec;

use super::answer::{Rcode, RecordType};
use super::domain::ClusterDomain;
use super::name::{DnsName, NameError, NameRef};
use super::zone::Zone;

/// What one query of a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
pub enum SearchResult {
    /// Records: the search ends.
    Answer,
    /// The name exists without records of the type; most resolvers go on, musl stops.
    NoData,
    /// No such name: the search goes on.
    NxDomain,
    /// The zone is not filled yet, or failed otherwise.
    ServFail,
    /// The name is in none of our zones: an upstream resolver would be asked.
    Upstream,
}

/// One query that a resolver sends for a relative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchStep {
    /// The name that is asked for.
    pub name: DnsName,
    /// What comes back.
    pub result: SearchResult,
}

/// The search list of pods of a namespace under DNS policy `ClusterFirst`; `host` domains follow.
///
/// # Errors
/// [`NameError`] when the namespace is no label or a domain overflows.
pub fn pod_search_list(
    domain: &ClusterDomain,
    namespace: &str,
    host: &[DnsName],
) -> Result<Vec<DnsName>, NameError> {
    let mut list = Vec::with_capacity(3 + host.len());
    list.push(domain.join(&[namespace, "svc"])?);
    list.push(domain.join(&["svc"])?);
    list.push(domain.apex().clone());
    list.extend_from_slice(host);
    Ok(list)
}

/// The names that a resolver tries for a text, in order.
///
/// A dot at the end makes the text absolute. With `ndots` dots or more it is tried as it is first,
/// else last. A candidate that is too long is left out, as resolvers do.
///
/// # Errors
/// [`NameError`] when the text itself is no name.
pub fn search_candidates(
    text: &str,
    search: &[DnsName],
    ndots: usize,
) -> Result<Vec<DnsName>, NameError> {
    let absolute: DnsName = text.parse()?;
    if text.ends_with('.') {
        return Ok(Vec::from([absolute]));
    }
    let dots = absolute.as_ref().labels().count() - 1;
    let mut candidates = Vec::with_capacity(search.len() + 1);
    if dots >= ndots {
        candidates.push(absolute.clone());
    }
    let joined = |domain: &DnsName| {
        let labels: Vec<&[u8]> = absolute.as_ref().labels().map(|l| l.octets()).collect();
        DnsName::join(&labels, domain.as_ref()).ok()
    };
    candidates.extend(search.iter().filter_map(joined));
    if dots < ndots {
        candidates.push(absolute);
    }
    Ok(candidates)
}

impl Zone {
    /// Asks for candidates in turn, up to the first that has records.
    pub fn search(&self, candidates: &[DnsName], record_type: RecordType) -> Vec<SearchStep> {
        let mut steps = Vec::new();
        for name in candidates {
            let result = self.search_one(name.as_ref(), record_type);
            steps.push(SearchStep {
                name: name.clone(),
                result,
            });
            if result == SearchResult::Answer {
                break;
            }
        }
        steps
    }

    fn search_one(&self, name: NameRef<'_>, record_type: RecordType) -> SearchResult {
        let answer = self.lookup(name, record_type);
        match answer.rcode {
            Rcode::NoError if answer.answers.is_empty() => SearchResult::NoData,
            Rcode::NoError => SearchResult::Answer,
            Rcode::NxDomain => SearchResult::NxDomain,
            Rcode::ServFail => SearchResult::ServFail,
            Rcode::Refused => SearchResult::Upstream,
        }
    }
}
