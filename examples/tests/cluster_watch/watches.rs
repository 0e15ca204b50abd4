//! Watches that end and are taken up again.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use examples::api_server::{ApiServer, End, Fault, On, Streaming, Transport};
use examples::cluster_watch::{Importance, Link, Notice, Posting, Tuning};
use serde_json::json;
use svc_core::{Event, ObjectKind, WatchEvent};

use crate::rig::*;

/// Lists of Services that started.
fn lists(rig: &Rig) -> usize {
    let init = Notice::Event(Event::Service(WatchEvent::Init));
    rig.seen.iter().filter(|notice| **notice == init).count()
}

#[test]
fn a_watch_is_taken_up_at_the_version_of_the_last_bookmark() {
    let mut rig = rig(|store| {
        store.put("services", service("web"));
    });
    rig.until_complete();
    rig.asked_to_watch("services");
    rig.store.advance();
    rig.store.advance();
    let version = rig.store.bookmark("services");
    rig.store.end_watches("services", End::Clean);
    let asked = rig.asked_to_watch("services");
    assert_eq!(asked.parameter("resourceVersion"), version.to_string());
    assert_eq!(asked.parameter("sendInitialEvents"), "");
    rig.store.put("services", service("late"));
    rig.until_state("late", |state| has(state, "late"));
    assert_eq!(lists(&rig), 1);
}

#[test]
fn an_event_that_breaks_off_is_sent_again_and_none_is_lost() {
    for end in [End::Cut, End::Clean, End::Error(500)] {
        let mut rig = rig(|_| {});
        rig.until_complete();
        let version = rig.store.put("services", service("web"));
        rig.until_state("web", |state| has(state, "web"));
        rig.asked_to_watch("services");
        rig.store.end_watches("services", end);
        rig.store.put("services", service("after"));
        let asked = rig.asked_to_watch("services");
        assert_eq!(
            asked.parameter("resourceVersion"),
            version.to_string(),
            "{end:?}"
        );
        rig.until_state("after", |state| has(state, "after"));
        assert_eq!(lists(&rig), 1, "{end:?}");
    }
}

/// Starts the server again; it says that versions from before are gone, by a status or by an event.
fn comes_back_without_history(rig: &mut Rig, address: SocketAddr, by_status: bool) {
    match by_status {
        false => rig.store.forget_history(),
        true => rig.store.forget_history_by_status(),
    }
    let server = ApiServer::start_at(address, &rig.store, Transport::Plain);
    rig.server = Some(server.unwrap());
}

#[test]
fn a_version_that_is_gone_leads_to_a_new_list_and_nothing_is_forgotten_on_the_way() {
    for by_status in [false, true] {
        let mut rig = rig(|store| {
            store.put("services", service("stays"));
            store.put("services", service("goes"));
        });
        rig.until_complete();
        // The server has to be away, or the deletion would arrive as an event.
        let address = rig.server.take().unwrap().address();
        rig.store.delete("services", "shop", "goes");
        rig.store.put("services", service("comes"));
        comes_back_without_history(&mut rig, address, by_status);
        rig.until("a new list", |notice| {
            *notice == Notice::Event(Event::Service(WatchEvent::Init))
        });
        assert!(rig.state.is_complete() && rig.has("stays") && rig.has("goes"));
        rig.until("its end", |notice| {
            *notice == Notice::Event(Event::Service(WatchEvent::InitDone))
        });
        assert_eq!(
            rig.names(),
            ["shop/comes", "shop/stays"],
            "by status: {by_status}"
        );
    }
}

#[test]
fn a_server_that_goes_and_comes_back_is_found_and_what_changed_arrives() {
    let mut rig = rig(|store| {
        store.put("services", service("web"));
    });
    rig.until_complete();
    let address = rig.server.take().unwrap().address();
    for _ in 0..3 {
        rig.until("a failed attempt", |notice| match notice {
            Notice::Link {
                kind,
                link: Link::Down { error, .. },
            } => *kind == ObjectKind::Service && !error.is_empty() && !error.contains('\n'),
            _ => false,
        });
    }
    assert!(rig.has("web"));
    rig.store.put("services", service("meanwhile"));
    rig.store.delete("services", "shop", "web");
    rig.server = Some(ApiServer::start_at(address, &rig.store, Transport::Plain).unwrap());
    rig.until_state("the change", |state| {
        has(state, "meanwhile") && !has(state, "web")
    });
    // Its version is known to the server: no new list is needed.
    assert_eq!(lists(&rig), 1);
}

/// What an API server says that restarts: it knows no version from before.
#[test]
fn a_server_that_comes_back_without_history_is_not_waited_for_any_longer() {
    for by_status in [false, true] {
        let patient = Tuning {
            retry_most: Duration::from_secs(3600),
            ..tuning()
        };
        let mut rig = rig_with(Transport::Plain, proxy(), patient, |store| {
            store.put("services", service("web"));
        });
        rig.until_complete();
        let address = rig.server.take().unwrap().address();
        let down = |notice: &Notice| match notice {
            Notice::Link {
                kind: ObjectKind::Service,
                link: Link::Down { error, retry_in },
            } => Some((error.starts_with("410"), *retry_in)),
            _ => None,
        };
        rig.until("long waits", |notice| {
            down(notice).is_some_and(|(_, wait)| wait > tuning().retry_first * 16)
        });
        rig.store.put("services", service("meanwhile"));
        comes_back_without_history(&mut rig, address, by_status);
        let gone = rig.until("a version that is gone", |notice| {
            down(notice).is_some_and(|(gone, _)| gone)
        });
        let (_, wait) = down(&gone).unwrap();
        assert!(wait <= tuning().retry_first, "{wait:?}");
        rig.until_state("the change", |state| has(state, "meanwhile"));
    }
}

#[test]
fn a_watch_on_which_nothing_happens_says_when_it_is_connected_again() {
    let mut rig = rig(|_| {});
    rig.until_complete();
    let address = rig.server.take().unwrap().address();
    let is_down = |notice: &Notice| match notice {
        Notice::Link { kind, link } => {
            *kind == ObjectKind::Node && matches!(link, Link::Down { .. })
        }
        _ => false,
    };
    rig.until("the loss", is_down);
    rig.server = Some(ApiServer::start_at(address, &rig.store, Transport::Plain).unwrap());
    let up = Notice::Link {
        kind: ObjectKind::Node,
        link: Link::Up,
    };
    rig.until("the connection", |notice| *notice == up);
}

#[test]
fn a_line_that_cannot_be_read_leads_to_a_new_list() {
    let mut rig = rig(|store| {
        store.put("services", service("web"));
    });
    rig.until_complete();
    rig.store.end_watches("services", End::Garbage);
    rig.until("a new list", |notice| {
        *notice == Notice::Event(Event::Service(WatchEvent::Init))
    });
    rig.store.put("services", service("after"));
    rig.until_state("after", |state| has(state, "after"));
}

#[test]
fn watches_that_end_at_once_are_asked_for_ever_more_slowly() {
    let first = Duration::from_millis(40);
    let patient = Tuning {
        retry_first: first,
        retry_most: Duration::from_secs(1),
        short_watch: Duration::from_secs(3600),
        ..tuning()
    };
    let rig = rig_with(Transport::Plain, proxy(), patient, |store| {
        store.set_streaming(Streaming::Refused);
        for _ in 0..4 {
            store.fail("services", On::Watch, Fault::Empty);
        }
    });
    let mut at: Vec<_> = Vec::new();
    for _ in 0..5 {
        at.push(rig.asked_to_watch("services").at);
    }
    for (attempt, pair) in at.windows(2).enumerate().skip(1) {
        let least = first * 2u32.pow(attempt as u32) / 2;
        assert!(
            pair[1] - pair[0] >= least,
            "attempt {attempt}: {:?}",
            pair[1] - pair[0]
        );
    }
}

#[test]
fn b234_b235_a_changed_slice_says_when_its_cause_happened() {
    let mut changed = slice("web", "web-1", "10.64.1.2");
    let mut unreadable = slice("web", "web-2", "10.64.1.3");
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    changed["metadata"]["annotations"][key] = json!("2026-01-05T08:00:00.25Z");
    unreadable["metadata"]["annotations"][key] = json!("soon");
    let mut rig = rig(|store| {
        store.put("endpointslices", changed.clone());
    });
    rig.until_complete();
    // It comes first, so a time made of it would too.
    rig.store.put("endpointslices", unreadable);
    rig.store.put("endpointslices", changed);
    let notice = rig.until("a time", |notice| matches!(notice, Notice::Triggered(_)));
    let at = std::time::UNIX_EPOCH + Duration::from_millis(1_767_600_000_250);
    assert_eq!(notice, Notice::Triggered(at));
    // Slices of a list have been there for an unknown time.
    let times = rig
        .seen
        .iter()
        .filter(|notice| matches!(notice, Notice::Triggered(_)));
    assert_eq!(times.count(), 1);
}

#[test]
fn events_are_posted_beside_their_object() {
    let mut rig = rig(|store| {
        let mut web = service("web");
        web["metadata"]["uid"] = "8d0b6b1c".into();
        store.put("services", web);
        store.put("services", service("other"));
    });
    rig.until_complete();
    rig.watch.as_ref().unwrap().poster().post(Posting {
        kind: ObjectKind::Service,
        object: svc_core::NamespacedName::new("shop", "web"),
        importance: Importance::Warning,
        reason: "Claimed".into(),
        message: "10.96.0.1 is that of shop/other".into(),
        reporter: "node-1".into(),
    });
    let asked = rig.asked("an Event", |asked| asked.method == "POST");
    assert_eq!(asked.path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    let event: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["regarding"]["name"], "web");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "Claimed");
    assert_eq!(event["note"], "10.96.0.1 is that of shop/other");
    assert_eq!(event["reportingInstance"], "node-1");
    // What `kubectl describe` asks for.
    assert_eq!(event["regarding"]["uid"], "8d0b6b1c");
    let time = event["eventTime"].as_str().unwrap();
    assert_eq!(time.len(), "2026-01-05T08:00:00.000000Z".len(), "{time}");
}

#[test]
fn the_thread_ends_when_the_watch_is_dropped_and_when_nobody_listens() {
    let mut rig = rig(|_| {});
    rig.until_complete();
    drop(rig.watch.take());
    // The sender is in the thread: the channel ends with it.
    rig.assert_ended();

    let (store, _asked) = examples::api_server::Store::new();
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let (ended, end) = channel::<()>();
    let options = options(&file.path);
    let watch = examples::cluster_watch::start(options, move |_| {
        let _alive = &ended;
        std::ops::ControlFlow::Break(())
    });
    let watch = watch.unwrap();
    let result = end.recv_timeout(DEADLINE);
    assert_eq!(result, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    drop(watch);
}
