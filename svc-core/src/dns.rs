//! The DNS of a cluster: names both ways, and what a zone answers.
//!
//! ```text
//!  "web.shop"  ──search list──►  web.shop.svc.cluster.local.  ──►  ParsedName::Service
//!                                             │
//!  ClusterState ──Changes──►  Zone  ──lookup──┴──►  Answer { rcode, answers, authority, … }
//! ```
//!
//! The rules are those of the Kubernetes DNS specification 1.1.0, with the tree semantics of
//! RFC 1034, 2308, 4592, 6604 and 8020: whether a name exists depends on the name alone, never on
//! the type that is asked for. There is no message format here and no server.

mod answer;
mod domain;
mod endpoint;
mod entry;
mod lookup;
mod name;
mod pointers;
mod reverse;
mod rule;
mod search;
mod table;
mod zone;

pub use answer::{
    Additional, Answer, Rcode, RecordData, RecordSet, RecordType, Section, Soa, UnknownRecordType,
};
pub use domain::{Branch, ClusterDomain, ParsedName};
pub use name::{DnsName, Label, Labels, MAX_LABEL, MAX_NAME, NameError, NameRef};
pub use reverse::{dashed_address, dashed_to_address, reverse_name, reverse_to_address};
pub use rule::{NameProblem, NameRule};
pub use search::{SearchResult, SearchStep, pod_search_list, search_candidates};
pub use zone::{MAX_TTL, PodNames, Zone, ZoneError, ZoneOptions};
