//! Any text is read as manifests without a panic, twice alike, every problem is one line and names
//! a line that the text has, and what was read is converted without a panic.
#![no_main]

// The reader of the example programs, which are too heavy to be a dependency.
#[allow(dead_code)]
#[path = "../../examples/src/manifest"]
mod manifest {
    mod document;

    use std::path::Path;
    use std::sync::Arc;

    use document::{Syntax, read_documents};
    use svc_core::wire::Document;

    pub(crate) type Read = Vec<(u64, Result<Document, Problem>)>;

    #[derive(Debug)]
    pub(crate) struct Problem {
        pub(crate) file: Arc<str>,
        pub(crate) line: Option<u64>,
        pub(crate) column: Option<u64>,
        pub(crate) message: String,
    }

    mod file {
        pub(super) fn cannot_read(_: &super::Path, error: &std::io::Error) -> super::Problem {
            unreachable!("no file is read: {error}")
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Read {
        let mut all = Vec::new();
        read_documents(&"-".into(), bytes, Syntax::Guess, &mut |line, document| {
            all.push((line, document));
        });
        all
    }
}

use libfuzzer_sys::fuzz_target;
use svc_core::wire::{Conversion, Object};

fuzz_target!(|bytes: &[u8]| {
    let documents = manifest::read(bytes);
    // Numbers that are none are not even themselves.
    assert_eq!(
        format!("{documents:?}"),
        format!("{:?}", manifest::read(bytes))
    );
    let lines = 1 + bytes
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count() as u64;
    for (first, document) in documents {
        assert!((1..=lines + 1).contains(&first), "{first} of {lines}");
        match document {
            Err(problem) => {
                assert!(!problem.message.contains('\n'), "{problem:?}");
                assert!(
                    problem.line.is_none_or(|line| line <= lines + 1),
                    "{problem:?}"
                );
            }
            Ok(document) => document.objects.into_iter().flatten().for_each(convert),
        }
    }
});

fn convert(object: Object) {
    let mut conversion = Conversion::default();
    match object {
        Object::Pod(pod) => drop(conversion.pod(&pod)),
        Object::Endpoints(endpoints) => drop(conversion.endpoints(&endpoints)),
        Object::Service(service) => drop(conversion.service(&service)),
        Object::EndpointSlice(slice) => drop(conversion.endpoint_slice(&slice)),
        Object::Node(node) => drop(conversion.node(&node)),
        Object::ServiceCidr(cidr) => drop(conversion.service_cidr(&cidr)),
        Object::Namespace(_) | Object::Workload(..) | Object::Unknown { .. } => {}
    }
}
