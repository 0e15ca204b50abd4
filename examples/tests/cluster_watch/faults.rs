//! Servers that answer with errors, break off, are slow, or speak TLS.

use std::time::Duration;

use examples::api_server::{End, Fault, On, Streaming, Transport};
use examples::cluster_watch::{Link, Notice, Tuning};
use svc_core::ObjectKind;

use crate::rig::*;

#[test]
fn errors_of_every_kind_delay_the_first_list_and_no_more() {
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(410),
        Fault::Error(500),
        Fault::Error(410),
        Fault::Empty,
        Fault::Cut(0),
        Fault::Cut(70),
    ];
    let mut rig = rig(|store| {
        for fault in faults {
            store.fail("services", On::Watch, fault);
        }
        store.put("services", service("web"));
        store.put("services", service("web-2"));
    });
    rig.until_complete();
    assert_eq!(rig.names(), ["shop/web", "shop/web-2"]);
}

/// What kube's client would try again by itself, for minutes and without a word.
#[test]
fn a_server_that_is_overloaded_is_told_of_and_asked_again_at_our_pace() {
    for code in [429, 503, 504] {
        let mut rig = rig(|store| {
            for _ in 0..5 {
                store.fail("services", On::Watch, Fault::Status(code));
            }
        });
        rig.until_complete();
        let told = rig.seen.iter().filter(|notice| match notice {
            Notice::Link {
                kind: ObjectKind::Service,
                link: Link::Down { error, retry_in },
            } => error.starts_with(&code.to_string()) && *retry_in <= tuning().retry_most,
            _ => false,
        });
        // Two with the same wait, which is chosen at random, are told as one.
        let told = told.count();
        assert!((2..=5).contains(&told), "{code}: {:#?}", rig.seen);
    }
}

#[test]
fn pages_that_fail_or_break_off_are_asked_for_again() {
    let faults = [
        Fault::Status(500),
        Fault::Cut(10),
        Fault::Cut(300),
        Fault::Status(410),
        Fault::Slow,
    ];
    let mut rig = rig(|store| {
        store.set_streaming(Streaming::Refused);
        for fault in faults {
            store.fail("services", On::List, fault);
        }
        for number in 0..5 {
            store.put("services", service(&format!("web-{number}")));
        }
    });
    rig.until_complete();
    assert_eq!(rig.names().len(), 5);
}

#[test]
fn events_that_come_in_small_pieces_are_put_together() {
    let mut rig = rig(|store| {
        store.fail("services", On::Watch, Fault::Slow);
        store.put("services", service("web"));
    });
    rig.until_complete();
    rig.store.put("services", service("late"));
    rig.until_state("late", |state| has(state, "late"));
    rig.store.delete("services", "shop", "web");
    rig.until_state("web gone", |state| !has(state, "web"));
}

#[test]
fn a_stream_that_is_silent_does_not_hold_up_the_first_list_for_ever() {
    let mut rig = rig(|store| {
        store.fail("services", On::Watch, Fault::Silent);
        store.put("services", service("web"));
    });
    rig.until_complete();
    assert!(rig.has("web"));
}

/// The connection stays, and nothing comes: as where a server dies that has taken a request.
#[test]
fn requests_that_are_never_answered_are_given_up() {
    let soon = || Tuning {
        answer: Duration::from_millis(300),
        ..tuning()
    };
    let mut rig = rig_with(Transport::Plain, proxy(), soon(), |store| {
        store.set_streaming(Streaming::Refused);
        store.fail("services", On::List, Fault::Unanswered);
        store.fail("services", On::List, Fault::Silent);
        store.put("services", service("web"));
    });
    let unanswered = |notice: &Notice| match notice {
        Notice::Link {
            kind: ObjectKind::Service,
            link: Link::Down { error, .. },
        } => error == "no answer within 300ms",
        _ => false,
    };
    rig.until("a page without an answer", unanswered);
    // Nor does the page after it end, which need not be told: the wait may happen to be the same.
    rig.until_complete();
    assert!(rig.has("web"));
    rig.asked_to_watch("services");
    rig.store.fail("services", On::Watch, Fault::Unanswered);
    rig.store.end_watches("services", End::Clean);
    rig.until("a watch without an answer", unanswered);
    rig.store.put("services", service("late"));
    rig.until_state("late", |state| has(state, "late"));
}

#[test]
fn one_kind_that_fails_does_not_hold_up_another() {
    let mut rig = rig(|store| store.refuse("nodes", 500));
    rig.until("Services", |notice| {
        matches!(
            notice,
            Notice::Link {
                kind: ObjectKind::Service,
                link: Link::Up
            }
        )
    });
    rig.store.put("services", service("web"));
    rig.until_state("web", |state| has(state, "web"));
    assert!(!rig.seen.contains(&Notice::Complete));
}

#[test]
fn connections_that_are_cut_are_made_again() {
    let mut rig = rig(|_| {});
    rig.until_complete();
    for round in 0..5 {
        rig.server.as_ref().unwrap().cut_connections();
        let name = format!("web-{round}");
        rig.store.put("services", service(&name));
        rig.until_state(&name, |state| has(state, &name));
    }
}

#[test]
fn all_of_it_over_tls() {
    let mut rig = rig_with(Transport::Tls, proxy(), tuning(), |store| {
        store.put("services", service("web"));
    });
    rig.until_complete();
    rig.store.put("services", service("late"));
    rig.until_state("late", |state| has(state, "late"));
    rig.server.as_ref().unwrap().cut_connections();
    rig.store.delete("services", "shop", "web");
    rig.until_state("web gone", |state| !has(state, "web"));
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let mut rig = rig_with(Transport::Tls, proxy(), tuning(), |_| {});
    rig.until_complete();
    let text = std::fs::read_to_string(rig.kubeconfig()).unwrap();
    let (before, rest) = text.split_once(", certificate-authority-data: ").unwrap();
    let (_, after) = rest.split_once("}}]").unwrap();
    let file = TempFile::new(&format!("{before}}}}}]{after}"));
    let (sender, notices) = std::sync::mpsc::channel();
    let _watch = examples::cluster_watch::start(options(&file.path), move |notice| {
        match sender.send(notice) {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(_) => std::ops::ControlFlow::Break(()),
        }
    })
    .unwrap();
    let first = notices.recv_timeout(DEADLINE).unwrap();
    let Notice::Link {
        link: Link::Down { error, .. },
        ..
    } = first
    else {
        panic!("{first:?}");
    };
    assert!(error.to_lowercase().contains("certificate"), "{error}");
}
