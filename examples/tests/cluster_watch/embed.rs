//! The example for authors of other controllers does what it says.

#[path = "../../examples/embed.rs"]
#[allow(dead_code)]
mod example;

use std::ops::ControlFlow;

use examples::api_server::{ApiServer, Store, Transport};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::rig::*;

#[test]
fn the_example_plans_what_its_watches_bring() {
    let (store, _asked) = Store::new();
    store.put("services", service("web"));
    store.put("endpointslices", slice("web", "web-1", "10.64.1.1"));
    store.put("nodes", node("node-1"));
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut deltas = Vec::new();
    let work = async {
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let client = Client::try_from(config.await.unwrap()).unwrap();
        example::run(client, |delta| {
            let text = format!("{delta:?}");
            let planned = text.contains("10.64.1.1");
            deltas.push(text);
            match planned {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .await
        .unwrap();
    };
    let limited = async { tokio::time::timeout(DEADLINE, work).await };
    assert!(runtime.block_on(limited).is_ok());
    assert!(
        deltas
            .last()
            .is_some_and(|delta| delta.contains("shop/web")),
        "{deltas:#?}"
    );
}
