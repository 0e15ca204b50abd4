//! A store, a server, and a watch of it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use examples::api_server::{ApiServer, Asked, Store, Transport};
use examples::cluster_watch::{Access, ClusterWatch, Interest, Notice, Options, Tuning, start};
use serde_json::{Value as Json, json};
use svc_core::wire::PodNames;
use svc_core::{ClusterState, NamespacedName};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) store: Arc<Store>,
    pub(crate) server: Option<ApiServer>,
    pub(crate) watch: Option<ClusterWatch>,
    pub(crate) state: ClusterState,
    /// Everything that was read from the watch.
    pub(crate) seen: Vec<Notice>,
    asked: Receiver<Asked>,
    notices: Receiver<Notice>,
    kubeconfig: TempFile,
}

/// Waits that suit tests.
pub(crate) fn tuning() -> Tuning {
    Tuning {
        retry_first: Duration::from_millis(20),
        retry_most: Duration::from_millis(200),
        retry_absent: Duration::from_millis(100),
        patience: Duration::from_millis(500),
        answer: DEADLINE,
        short_watch: Duration::ZERO,
        page_size: 2,
    }
}

pub(crate) fn proxy() -> Interest {
    Interest::Proxy {
        node: "node-1".into(),
    }
}

/// A store, filled by a closure, with a server and a watch.
pub(crate) fn rig(fill: impl FnOnce(&Store)) -> Rig {
    rig_with(Transport::Plain, proxy(), tuning(), fill)
}

pub(crate) fn rig_with(
    transport: Transport,
    interest: Interest,
    tuning: Tuning,
    fill: impl FnOnce(&Store),
) -> Rig {
    let (store, asked) = Store::new();
    fill(&store);
    let server = ApiServer::start(&store, transport).unwrap();
    let kubeconfig = TempFile::new(&server.kubeconfig());
    let (sender, notices) = channel();
    let options = Options {
        interest,
        tuning,
        ..options(&kubeconfig.path)
    };
    let watch = start(options, move |notice| match sender.send(notice) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    Rig {
        store,
        server: Some(server),
        watch: Some(watch.unwrap()),
        state: ClusterState::new(),
        seen: Vec::new(),
        asked,
        notices,
        kubeconfig,
    }
}

/// A watch for a proxy of the server of a kubeconfig.
pub(crate) fn options(kubeconfig: &Path) -> Options {
    Options {
        access: Access {
            kubeconfig: Some(kubeconfig.into()),
        },
        interest: proxy(),
        pod_names: PodNames::Keep,
        tuning: tuning(),
    }
}

impl Rig {
    /// The thread of the watch is gone.
    pub(crate) fn assert_ended(&self) {
        let end = Instant::now() + DEADLINE;
        while let Ok(notice) = self.notices.try_recv() {
            assert!(Instant::now() < end, "{notice:?}");
        }
        assert_eq!(self.notices.try_recv(), Err(TryRecvError::Disconnected));
    }

    /// Takes in notices up to one that fits.
    pub(crate) fn until(&mut self, what: &str, mut fits: impl FnMut(&Notice) -> bool) -> Notice {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(notice) = self.notices.recv_timeout(left) else {
                panic!("{what} never came, but {:#?}", self.seen);
            };
            self.seen.push(notice.clone());
            if let Notice::Event(event) = &notice {
                self.state.apply(event.clone());
            }
            if fits(&notice) {
                return notice;
            }
        }
    }

    pub(crate) fn until_complete(&mut self) {
        self.until("the first lists", |notice| *notice == Notice::Complete);
    }

    /// Waits until the state satisfies a condition, which has to be false before.
    pub(crate) fn until_state(&mut self, what: &str, holds: impl Fn(&ClusterState) -> bool) {
        assert!(!holds(&self.state), "{what} holds already");
        let end = Instant::now() + DEADLINE;
        while !holds(&self.state) {
            assert!(Instant::now() < end);
            self.until(what, |_| true);
        }
    }

    /// The next request that fits; those before it are dropped.
    pub(crate) fn asked(&self, what: &str, mut fits: impl FnMut(&Asked) -> bool) -> Asked {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.asked.recv_timeout(left) {
                Ok(asked) if fits(&asked) => return asked,
                Ok(_) => {}
                Err(_) => panic!("nobody asked for {what}"),
            }
        }
    }

    /// The next watch of a resource.
    pub(crate) fn asked_to_watch(&self, resource: &str) -> Asked {
        self.asked(resource, |asked| {
            asked.path.ends_with(resource) && asked.is_watch()
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let services = self.state.services();
        services
            .iter()
            .map(|service| service.name.to_string())
            .collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        has(&self.state, name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path.clone()
    }
}

pub(crate) fn has(state: &ClusterState, name: &str) -> bool {
    state.service(&NamespacedName::new("shop", name)).is_some()
}

pub(crate) fn service(name: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "labels": {}},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
    })
}

pub(crate) fn labelled(name: &str, label: &str) -> Json {
    let mut service = service(name);
    service["metadata"]["labels"][label] = json!("yes");
    service
}

pub(crate) fn slice(service: &str, name: &str, address: &str) -> Json {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": "node-1"}],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    })
}

pub(crate) fn node(name: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

/// A file that is gone when this is.
pub(crate) struct TempFile {
    pub(crate) path: PathBuf,
}

impl TempFile {
    pub(crate) fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cluster-watch-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self { path }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
