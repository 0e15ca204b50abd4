//! One connection: requests for lists and watches.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use super::fault::{Fault, On, status};
use super::http::{read_request, start_chunks, write_answer, write_chunk};
use super::selector::Selector;
use super::{Asked, Shared, watch};

/// Bytes that a slow server sends at a time.
const FEW: usize = 7;

/// Answers requests until the connection ends.
pub(super) fn connection(mut stream: impl Read + Write, shared: &Shared) -> io::Result<()> {
    while let Some(asked) = read_request(&mut stream)? {
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        shared.store.note(&asked);
        if asked.method != "GET" {
            write_answer(&mut stream, 201, &asked.body)?;
            continue;
        }
        let (resource, namespace) = resource(&asked.path);
        let selector = Selector::of(&asked, namespace);
        let more = match asked.is_watch() {
            true => watch::answer(&mut stream, &asked, &resource, &selector, shared)?,
            false => list(&mut stream, &asked, &resource, &selector, shared)?,
        };
        match more {
            More::Requests => {}
            More::Nothing => break,
        }
    }
    Ok(())
}

/// Whether a connection goes on.
pub(super) enum More {
    Requests,
    Nothing,
}

/// The resource of a path, and the namespace if it names one.
fn resource(path: &str) -> (String, Option<String>) {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let resource = parts.pop().unwrap_or_default().to_owned();
    let namespace = match parts.as_slice() {
        [.., "namespaces", namespace] => Some((*namespace).to_owned()),
        _ => None,
    };
    (resource, namespace)
}

fn list(
    stream: &mut impl Write,
    asked: &Asked,
    resource: &str,
    selector: &Selector,
    shared: &Shared,
) -> io::Result<More> {
    let fault = shared.store.fault(resource, On::List);
    if let Some(Fault::Status(code) | Fault::Error(code)) = fault {
        write_answer(stream, code, &status(code))?;
        return Ok(More::Requests);
    }
    if let Some(Fault::Unanswered) = fault {
        return Ok(More::Requests);
    }
    let body = match page(asked, resource, selector, shared) {
        Ok(body) => body,
        Err(code) => {
            write_answer(stream, code, &status(code))?;
            return Ok(More::Requests);
        }
    };
    write_page(stream, &body, fault)
}

/// Writes a page, or what a fault leaves of it.
fn write_page(stream: &mut impl Write, body: &str, fault: Option<Fault>) -> io::Result<More> {
    match fault {
        Some(Fault::Cut(count)) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.write_all(&body.as_bytes()[..count.min(length)])?;
            stream.flush()?;
            Ok(More::Nothing)
        }
        Some(Fault::Silent) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")?;
            stream.flush()?;
            Ok(More::Requests)
        }
        Some(Fault::Slow) => {
            start_chunks(stream)?;
            for piece in body.as_bytes().chunks(FEW) {
                write_chunk(stream, piece)?;
            }
            super::http::end_chunks(stream)?;
            Ok(More::Requests)
        }
        Some(Fault::Status(_) | Fault::Error(_) | Fault::Empty | Fault::Unanswered) | None => {
            write_answer(stream, 200, body)?;
            Ok(More::Requests)
        }
    }
}

/// One page of a list, or the code of an error.
fn page(
    asked: &Asked,
    resource: &str,
    selector: &Selector,
    shared: &Shared,
) -> Result<String, u16> {
    let mut inner = shared.store.lock();
    let (version, start) = match asked.parameter("continue") {
        "" => (inner.version, 0),
        token => {
            let (version, start) = token.split_once('/').ok_or(400u16)?;
            let version = version.parse().map_err(|_| 400u16)?;
            (version, start.parse().map_err(|_| 400u16)?)
        }
    };
    if start == 0 {
        let mut objects = inner.list(resource);
        objects.retain(|object| selector.takes(object));
        inner
            .snapshots
            .insert((resource.to_owned(), version), objects);
    } else if version < inner.oldest {
        return Err(410);
    }
    let snapshot = inner.snapshots.get(&(resource.to_owned(), version));
    let objects = snapshot.ok_or(410u16)?;
    let limit: usize = asked.parameter("limit").parse().unwrap_or(0);
    let end = match limit {
        0 => objects.len(),
        limit => objects.len().min(start + limit),
    };
    let next = match end < objects.len() {
        true => format!("{version}/{end}"),
        false => String::new(),
    };
    let items: Vec<&str> = objects
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .map(|object| object.json.as_str())
        .collect();
    let (api_version, kind) = kind(resource);
    Ok(format!(
        r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{}]}}"#,
        items.join(",")
    ))
}

/// `apiVersion` and kind of a resource.
pub(super) fn kind(resource: &str) -> (&'static str, &'static str) {
    match resource {
        "services" => ("v1", "Service"),
        "nodes" => ("v1", "Node"),
        "pods" => ("v1", "Pod"),
        "namespaces" => ("v1", "Namespace"),
        "endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
        "servicecidrs" => ("networking.k8s.io/v1", "ServiceCIDR"),
        "deployments" => ("apps/v1", "Deployment"),
        "daemonsets" => ("apps/v1", "DaemonSet"),
        "replicasets" => ("apps/v1", "ReplicaSet"),
        "statefulsets" => ("apps/v1", "StatefulSet"),
        _ => ("v1", "Thing"),
    }
}

/// Writes pieces of a stream, a few bytes at a time if it is to be slow.
pub(super) fn write_pieces(
    stream: &mut impl Write,
    text: &str,
    fault: Option<Fault>,
) -> io::Result<()> {
    match fault {
        Some(Fault::Slow) => text
            .as_bytes()
            .chunks(FEW)
            .try_for_each(|piece| write_chunk(stream, piece)),
        Some(_) | None => write_chunk(stream, text.as_bytes()),
    }
}
