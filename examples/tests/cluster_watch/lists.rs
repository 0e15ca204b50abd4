//! The first lists: complete before anything else, streamed or in pages, and only what is wanted.

use examples::api_server::{Fault, On, Streaming, Transport};
use examples::cluster_watch::{Interest, Link, Notice, Pods};
use serde_json::json;
use svc_core::{Event, ObjectKind, WatchEvent};

use crate::rig::*;

#[test]
fn nothing_is_complete_before_the_lists_of_services_and_slices_are_b_237() {
    let mut rig = rig(|store| {
        store.put("services", service("web"));
        store.put("endpointslices", slice("web", "web-1", "10.64.1.1"));
        store.put("nodes", node("node-1"));
        store.put(
            "servicecidrs",
            json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}),
        );
        // The last list to come.
        store.fail("endpointslices", On::Watch, Fault::Status(500));
    });
    rig.until("Services", |notice| {
        *notice == Notice::Event(Event::Service(WatchEvent::InitDone))
    });
    assert!(!rig.state.is_complete());
    rig.until_complete();
    assert!(rig.state.is_complete());
    let completes = rig
        .seen
        .iter()
        .filter(|notice| **notice == Notice::Complete);
    assert_eq!(completes.count(), 1);
    assert_eq!(rig.names(), ["shop/web"]);
    assert_eq!(
        rig.state
            .slices(&svc_core::NamespacedName::new("shop", "web"))
            .len(),
        1
    );
    assert!(rig.state.node("node-1").is_some());
    assert_eq!(rig.state.service_cidrs().count(), 1);
}

#[test]
fn a_streaming_list_is_asked_for_with_selectors_bookmarks_and_a_token() {
    let mut rig = rig(|_| {});
    rig.until_complete();
    let mut asked: Vec<_> = (0..4)
        .map(|_| rig.asked("a watch", |a| a.is_watch()))
        .collect();
    asked.sort_by(|a, b| a.path.cmp(&b.path));
    let wanted = [
        ("/api/v1/nodes", "", "metadata.name=node-1"),
        ("/api/v1/services", PROXIED, ""),
        ("/apis/discovery.k8s.io/v1/endpointslices", PROXIED, ""),
        ("/apis/networking.k8s.io/v1/servicecidrs", "", ""),
    ];
    for (asked, (path, labels, fields)) in asked.iter().zip(wanted) {
        assert_eq!(asked.path, path);
        assert_eq!(asked.parameter("labelSelector"), labels);
        assert_eq!(asked.parameter("fieldSelector"), fields);
        assert_eq!(asked.parameter("sendInitialEvents"), "true");
        assert_eq!(asked.parameter("resourceVersionMatch"), "NotOlderThan");
        assert_eq!(asked.parameter("allowWatchBookmarks"), "true");
        assert_eq!(asked.authorization, "Bearer test-token");
    }
}

const PROXIED: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

#[test]
fn headless_services_those_of_other_proxies_and_other_nodes_do_not_arrive_b_008() {
    let headless = "service.kubernetes.io/headless";
    let mut rig = rig(|store| {
        store.put("services", labelled("headless", headless));
        store.put(
            "services",
            labelled("foreign", "service.kubernetes.io/service-proxy-name"),
        );
        store.put("services", service("web"));
        store.put("nodes", node("node-1"));
        store.put("nodes", node("node-2"));
    });
    rig.until_complete();
    assert_eq!(rig.names(), ["shop/web"]);
    assert!(rig.state.node("node-2").is_none());
    // One that becomes headless is gone.
    rig.store.put("services", labelled("web", headless));
    rig.until_state("web gone", |state| !has(state, "web"));
}

#[test]
fn names_need_headless_services_namespaces_and_pods_when_they_are_served() {
    let dns = Interest::Dns {
        pods: Pods::Watched,
    };
    let mut rig = rig_with(Transport::Plain, dns, tuning(), |store| {
        store.put(
            "services",
            labelled("headless", "service.kubernetes.io/headless"),
        );
        store.put("namespaces", json!({"metadata": {"name": "shop"}}));
        store.put(
            "pods",
            json!({"metadata": {"name": "pod", "namespace": "shop"}}),
        );
    });
    rig.until_complete();
    assert_eq!(rig.names(), ["shop/headless"]);
    let namespace = Notice::Namespace(WatchEvent::InitApply("shop".into()));
    assert!(rig.seen.contains(&namespace));
    let is_pod = |notice: &Notice| matches!(notice, Notice::Pod(WatchEvent::InitApply(_)));
    assert!(rig.seen.iter().any(is_pod));
}

#[test]
fn a_server_that_refuses_to_stream_is_read_in_pages() {
    let mut rig = rig(|store| {
        store.set_streaming(Streaming::Refused);
        for number in 0..5 {
            store.put("services", service(&format!("web-{number}")));
        }
    });
    rig.until_complete();
    assert_eq!(rig.names().len(), 5);
    let pages: Vec<_> = (0..3)
        .map(|_| rig.asked("a page", |a| a.path.ends_with("/services") && !a.is_watch()))
        .collect();
    for page in &pages {
        assert_eq!(page.parameter("limit"), "2");
        assert_eq!(page.parameter("labelSelector"), PROXIED);
    }
    let next: Vec<_> = pages
        .iter()
        .map(|page| page.parameter("continue"))
        .collect();
    assert_eq!(next, ["", "6/2", "6/4"]);
    // The watch starts where the list ended.
    assert_eq!(
        rig.asked_to_watch("services").parameter("resourceVersion"),
        "6"
    );
    rig.store.put("services", service("late"));
    rig.until_state("late", |state| has(state, "late"));
}

#[test]
fn a_server_that_does_not_know_streaming_is_read_in_pages_when_patience_ends() {
    let mut rig = rig(|store| {
        store.set_streaming(Streaming::Unknown);
        store.put("services", service("web"));
    });
    rig.until_complete();
    assert_eq!(rig.names(), ["shop/web"]);
    rig.asked("a page", |a| {
        a.path.ends_with("/services") && a.parameter("limit") == "2"
    });
}

#[test]
fn a_resource_that_a_server_does_not_show_and_that_can_be_done_without_holds_nothing_up() {
    for code in [403, 404] {
        let mut rig = rig(|store| store.refuse("servicecidrs", code));
        rig.until_complete();
        let is_absent = |notice: &Notice| match notice {
            Notice::Link {
                kind,
                link: Link::Absent { error },
            } => *kind == ObjectKind::ServiceCIDR && error.starts_with(&code.to_string()),
            _ => false,
        };
        assert!(rig.seen.iter().any(is_absent), "{:#?}", rig.seen);
        // It is asked for again, as rights may be given later.
        rig.asked_to_watch("servicecidrs");
        rig.asked_to_watch("servicecidrs");
    }
}

#[test]
fn a_needed_resource_that_is_forbidden_is_an_error_until_it_is_allowed() {
    let mut rig = rig(|store| {
        for _ in 0..3 {
            store.fail("services", On::Watch, Fault::Status(403));
        }
        store.put("services", service("web"));
    });
    rig.until("an error", |notice| match notice {
        Notice::Link {
            kind,
            link: Link::Down { error, .. },
        } => *kind == ObjectKind::Service && error == "403 Forbidden: made by the test",
        _ => false,
    });
    rig.until_complete();
    assert!(rig.has("web"));
}

#[test]
fn a_bad_object_is_named_and_all_others_arrive() {
    let mut bad = service("bad");
    bad["spec"]["ports"] = json!([{"port": "http"}]);
    let mut slice_of_smoke = slice("web", "smoke", "10.64.1.9");
    slice_of_smoke["addressType"] = json!("Smoke");
    for streaming in [Streaming::Served, Streaming::Refused] {
        let mut rig = rig(|store| {
            store.set_streaming(streaming);
            store.put("services", service("a"));
            store.put("services", bad.clone());
            store.put(
                "services",
                json!({"metadata": {"name": "worse", "namespace": "shop"}, "spec": 7}),
            );
            store.put("services", service("z"));
            store.put("endpointslices", slice_of_smoke.clone());
            store.put("endpointslices", slice("web", "web-1", "10.64.1.1"));
        });
        rig.until_complete();
        assert_eq!(rig.names(), ["shop/a", "shop/bad", "shop/worse", "shop/z"]);
        for name in ["bad", "worse", "smoke"] {
            assert!(
                rig.seen
                    .iter()
                    .any(|notice| remarks_on(notice, name) > Some(0)),
                "{name}"
            );
        }
        assert!(
            !rig.seen
                .iter()
                .any(|notice| remarks_on(notice, "a").is_some())
        );
        // Repaired: the remark is taken back.
        rig.store.put("services", service("bad"));
        rig.until("the end of a remark", |notice| {
            remarks_on(notice, "bad") == Some(0)
        });
        rig.store.delete("endpointslices", "shop", "smoke");
        rig.until("the end of a remark", |notice| {
            remarks_on(notice, "smoke") == Some(0)
        });
        // Gone while nobody was looking.
        rig.store.delete("services", "shop", "worse");
        rig.store.forget_history();
        rig.store
            .end_watches("services", examples::api_server::End::Error(410));
        rig.until("the end of a remark", |notice| {
            remarks_on(notice, "worse") == Some(0)
        });
    }
}

/// How many remarks a notice makes about an object.
fn remarks_on(notice: &Notice, name: &str) -> Option<usize> {
    match notice {
        Notice::Remarks {
            object,
            diagnostics,
            ..
        } if &*object.name == name => Some(diagnostics.len()),
        _ => None,
    }
}
