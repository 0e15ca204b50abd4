//! A controller of your own: watches of `kube` feed a [`Planner`], which says what changed.
//!
//! `KUBECONFIG=… cargo run -p examples --features cluster --example embed`

use std::error::Error;
use std::future::ready;
use std::ops::ControlFlow;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use svc_core::config::{ProxyConfig, ProxyMode};
use svc_core::kube::{Watched, WireKind, translate};
use svc_core::wire::{self, Conversion, Shape};
use svc_core::{Event, NodeConfig, PlanDelta, Planner, WatchEvent};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::try_default().await?;
        run(client, |delta| {
            println!("{delta:?}");
            ControlFlow::Continue(())
        })
        .await
    })
}

/// Tells what changes in the plans of a node, until told to stop.
pub(crate) async fn run(
    client: Client,
    mut changed: impl FnMut(&PlanDelta) -> ControlFlow<()>,
) -> Result<(), Box<dyn Error>> {
    let config = ProxyConfig::default_for(ProxyMode::Nftables);
    let mut planner = Planner::new(NodeConfig::new("node-1", config));
    let mut events = select_all([
        events::<wire::Service>(&client),
        events::<wire::EndpointSlice>(&client),
        events::<wire::Node>(&client),
    ]);
    while let Some(event) = events.next().await {
        planner.handle(event);
        // Half of a cluster is not a state that any kernel should be in.
        if !planner.state().is_complete() {
            continue;
        }
        for delta in planner.delta() {
            // A `Reconciler` takes it from here: `change(&delta)`, then `settle`.
            if changed(&delta).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The events of one kind; what is wrong with an object is said, and never ends the stream.
fn events<W: WireKind + Shape>(client: &Client) -> BoxStream<'static, Event>
where
    Event: From<WatchEvent<W::Object, W::Key>>,
{
    let mut conversion = Conversion::default();
    let config = watcher::Config::default().streaming_lists();
    watcher(Api::<Watched<W>>::all(client.clone()), config)
        .default_backoff()
        .filter_map(move |event| {
            let event = event.inspect_err(|error| eprintln!("{error}")).ok();
            let translated = event.map(|event| translate(&mut conversion, event));
            for diagnostic in translated.iter().flat_map(|t| &t.diagnostics) {
                eprintln!("{diagnostic}");
            }
            ready(translated.and_then(|t| t.event).map(Event::from))
        })
        .boxed()
}
