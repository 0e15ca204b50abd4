//! The thread that all watches of a program share.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures_util::future::{BoxFuture, join_all, select};
use kube::Client;
use svc_core::wire;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::access;
use super::follow::follow;
use super::output::{Output, Sink};
use super::post::{WAITING, post};
use super::{Error, Options, Posting, Resource, Subject, Tuning};

/// A running thread; stopped and waited for when dropped.
#[derive(Debug)]
pub(super) struct Thread {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
    postings: Sender<Posting>,
}

/// An event loop on the calling thread.
pub(super) fn runtime() -> Result<Runtime, Error> {
    let builder = &mut Builder::new_current_thread();
    // One thread for names of hosts is enough, and each costs memory.
    Ok(builder
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .build()?)
}

impl Thread {
    pub(super) fn start(options: Options, sink: Sink) -> Result<Self, Error> {
        let runtime = runtime()?;
        let client = runtime.block_on(access::client(&options.access, options.tuning.answer))?;
        let stop = Arc::new(Notify::new());
        let subjects = options.interest.subjects();
        let kinds = subjects.iter().map(|subject| subject.resource.kind());
        let output = Output::new(sink, options.pod_names, kinds, stop.clone());
        let stopped = stop.clone();
        let (postings, waiting) = channel(WAITING);
        let work = move || {
            runtime.block_on(watch(
                client,
                subjects,
                &options.tuning,
                output,
                waiting,
                &stopped,
            ));
        };
        let thread = thread::Builder::new()
            .name("cluster-watch".into())
            .spawn(work)?;
        Ok(Self {
            stop,
            thread: Some(thread),
            postings,
        })
    }

    pub(super) fn postings(&self) -> Sender<Posting> {
        self.postings.clone()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.notify_one();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A sink may own this value: its thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // Whether it panicked is not ours to say here.
            let _ = thread.join();
        }
    }
}

async fn watch(
    client: Client,
    subjects: Vec<Subject>,
    tuning: &Tuning,
    output: Output,
    postings: Receiver<Posting>,
    stop: &Notify,
) {
    let posting: BoxFuture<'_, ()> = Box::pin(post(client.clone(), postings));
    let watches = subjects
        .into_iter()
        .map(|subject| follow_subject(client.clone(), subject, tuning, output.clone()));
    select(
        join_all(watches.chain([posting])),
        Box::pin(stop.notified()),
    )
    .await;
}

fn follow_subject(
    client: Client,
    subject: Subject,
    tuning: &Tuning,
    output: Output,
) -> BoxFuture<'_, ()> {
    match subject.resource {
        Resource::Services => Box::pin(follow::<wire::Service>(client, subject, tuning, output)),
        Resource::EndpointSlices => Box::pin(follow::<wire::EndpointSlice>(
            client, subject, tuning, output,
        )),
        Resource::Nodes => Box::pin(follow::<wire::Node>(client, subject, tuning, output)),
        Resource::ServiceCidrs => {
            Box::pin(follow::<wire::ServiceCidr>(client, subject, tuning, output))
        }
        Resource::Pods => Box::pin(follow::<wire::Pod>(client, subject, tuning, output)),
        Resource::Namespaces => {
            Box::pin(follow::<wire::Namespace>(client, subject, tuning, output))
        }
        // No interest asks for these.
        Resource::Deployments
        | Resource::DaemonSets
        | Resource::ReplicaSets
        | Resource::StatefulSets => Box::pin(async {}),
    }
}
