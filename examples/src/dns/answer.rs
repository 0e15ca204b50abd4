//! What the zone answers, as `svcctl dns` shows it.

use std::error::Error;

use serde_json::{Map, Value, json};
use svc_core::dns::{
    Answer, DnsName, RecordSet, RecordType, SearchResult, SearchStep, Zone, ZoneError, ZoneOptions,
    pod_search_list, search_candidates,
};

use super::source::ZoneSource;
use crate::manifest::Manifests;

/// Dots from which on a pod's resolver tries a name as it is first.
pub const NDOTS: usize = 5;

/// The zone that manifests make.
///
/// # Errors
/// [`ZoneError`] when the options make no zone.
pub fn zone_of(manifests: &Manifests, options: ZoneOptions) -> Result<Zone, ZoneError> {
    zone_and_remarks(manifests, options).map(|(zone, _)| zone)
}

/// The zone that manifests make, and in lines what is wrong with them.
///
/// # Errors
/// [`ZoneError`] when the options make no zone.
pub fn zone_and_remarks(
    manifests: &Manifests,
    options: ZoneOptions,
) -> Result<(Zone, Vec<String>), ZoneError> {
    let mut source = ZoneSource::new(options)?;
    source.take(manifests);
    Ok((source.zone().clone(), source.remarks(manifests)))
}

/// The answer to one question, as JSON of the contract.
///
/// # Errors
/// When the text is no name.
pub fn cli_answer(zone: &Zone, name: &str, kind: RecordType) -> Result<Value, Box<dyn Error>> {
    let name: DnsName = name.parse()?;
    Ok(answer_json(&zone.lookup(name.as_ref(), kind)))
}

/// The steps of a search as a pod of a namespace would take them, and the answer to the last one.
///
/// # Errors
/// When a text is no name.
pub fn cli_search(
    zone: &Zone,
    namespace: &str,
    name: &str,
    kind: RecordType,
) -> Result<Value, Box<dyn Error>> {
    let search = pod_search_list(&zone.options().domain, namespace, &[])?;
    let candidates = search_candidates(name, &search, NDOTS)?;
    let steps = zone.search(&candidates, kind);
    let mut value = match steps.last() {
        Some(last) => answer_json(&zone.lookup(last.name.as_ref(), kind)),
        None => json!({}),
    };
    value["steps"] = steps.iter().map(step_json).collect();
    Ok(value)
}

/// An answer as JSON: rcode and three sections.
pub fn answer_json(answer: &Answer<'_>) -> Value {
    let mut value = Map::new();
    value.insert("rcode".into(), json!(answer.rcode.to_string()));
    value.insert("answers".into(), records(answer.answers.iter().copied()));
    value.insert(
        "authority".into(),
        records(answer.authority.iter().copied()),
    );
    value.insert("additional".into(), records(answer.additional.clone()));
    Value::Object(value)
}

/// An answer for people, in the form of zone files.
pub fn answer_text(value: &Value) -> String {
    let mut text = String::new();
    for step in value["steps"].as_array().into_iter().flatten() {
        let word = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        text += &format!(";; {} {}\n", word("name"), word("result"));
    }
    text += &format!(";; {}\n", value["rcode"].as_str().unwrap_or_default());
    for section in ["answers", "authority", "additional"] {
        let records = value[section].as_array().map_or(&[][..], Vec::as_slice);
        if records.is_empty() {
            continue;
        }
        text += &format!(";; {section}\n");
        for record in records {
            let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let (name, kind, data) = (word("name"), word("type"), word("data"));
            text += &format!("{name} {} IN {kind} {data}\n", record["ttl"]);
        }
    }
    text
}

fn records<'a>(sets: impl Iterator<Item = RecordSet<'a>>) -> Value {
    let one = |set: RecordSet<'a>| {
        let owner = set.owner.to_string();
        set.iter().map(move |data| {
            json!({
                "name": owner.clone(),
                "type": data.record_type().to_string(),
                "ttl": set.ttl,
                "data": data.to_string(),
            })
        })
    };
    sets.flat_map(one).collect()
}

fn step_json(step: &SearchStep) -> Value {
    let result = match step.result {
        SearchResult::Answer => "ANSWER",
        SearchResult::NoData => "NODATA",
        SearchResult::NxDomain => "NXDOMAIN",
        SearchResult::ServFail => "SERVFAIL",
        SearchResult::Upstream => "UPSTREAM",
    };
    json!({"name": step.name.to_string(), "result": result})
}
