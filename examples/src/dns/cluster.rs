//! A zone that follows a cluster.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use svc_core::wire::PodNames;

use super::args::ZoneArgs;
use super::metrics::add;
use super::server::Shared;
use super::source::ZoneSource;
use crate::cluster_watch::{Access, ClusterWatch, Link, Notice, Options, Tuning, start};

/// A watch whose news have not been looked at.
pub(super) struct Following {
    notices: Receiver<Notice>,
    /// Goes on as long as this lives.
    _watch: ClusterWatch,
}

/// Starts to watch what a zone is made of.
pub(super) fn follow(access: Access, args: &ZoneArgs) -> Result<Following, Box<dyn Error>> {
    let (sender, notices) = channel();
    let options = Options {
        access,
        interest: args.interest(),
        // Names of endpoints are made of them.
        pod_names: PodNames::Keep,
        tuning: Tuning::default(),
    };
    let _watch = start(options, move |notice| match sender.send(notice) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    })?;
    Ok(Following { notices, _watch })
}

impl Following {
    /// Publishes the zone after each batch of changes, from the first complete lists on: before that
    /// the server says that it does not know (SERVFAIL), never that a name does not exist.
    pub(super) fn run(self, source: &mut ZoneSource, shared: &Shared) -> io::Result<()> {
        let mut complete = false;
        while let Ok(first) = self.notices.recv() {
            let mut changed = false;
            for notice in std::iter::once(first).chain(self.notices.try_iter()) {
                report(&notice);
                if notice == Notice::Complete {
                    (complete, changed) = (true, true);
                }
                changed |= source.notice(notice);
            }
            for diagnostic in source.take_news() {
                eprintln!("{diagnostic}");
            }
            if complete && changed {
                shared.zone.store(Arc::new(source.zone().clone()));
                add(&shared.metrics.reloads, 1);
            }
        }
        Err(io::Error::other("the watch ended"))
    }
}

fn report(notice: &Notice) {
    match notice {
        Notice::Remarks { diagnostics, .. } => {
            for diagnostic in diagnostics {
                eprintln!("{diagnostic}");
            }
        }
        Notice::Link { kind, link } => match link {
            Link::Up => eprintln!("watch of {kind:?}: connected"),
            Link::Down { error, retry_in } => {
                eprintln!("watch of {kind:?}: {error}; next attempt in {retry_in:.1?}");
            }
            Link::Absent { error } => eprintln!("note: {kind:?} cannot be watched: {error}"),
        },
        Notice::Complete => eprintln!("all names are known"),
        Notice::Event(_) | Notice::Pod(_) | Notice::Namespace(_) | Notice::Triggered(_) => {}
    }
}
