//! Scenarios of upstream's end-to-end tests over several nodes (B-429 to B-438).

use std::cell::RefCell;

use examples::sandbox::{ConnectLoop, Outcome};
use serde_json::json;

use crate::rig::{PATIENCE, end_stream, stream_on};
use crate::world::{CLIENT, CLUSTER_IP, NO_ANSWER, NODES, World, ip, service, slice};

const FIRST: &str = "10.64.1.11";
const SECOND: &str = "10.64.2.12";

/// A pod moves from one node to the other under a stream of connections to node ports of both nodes
/// and to the ClusterIP from pods of both; where the policy is Local, the node without the pod does
/// not answer, and clients are seen by their own addresses (B-430, B-431, B-432, B-438).
pub(crate) fn a_pod_moves() {
    let local = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32100,
    });
    let mut world = World::new("moves", |store| {
        store.put("services", service("web", CLUSTER_IP, 30080, &json!({})));
        store.put("services", service("own", "10.96.0.20", 30090, &local));
        store.put("endpointslices", slice("web", &[FIRST]));
        store.put("endpointslices", slice("own", &[FIRST]));
    });
    let first = world.pod(FIRST);
    let away = world.pod("10.64.2.99");
    for node in [0, 1] {
        world.until_held(node, "first rules", |held| held.contains(FIRST));
    }
    let web = NODES.map(|(_, address)| format!("{address}:30080"));
    let own = NODES.map(|(_, address)| format!("{address}:30090"));
    assert_eq!(world.answered(&web[0]).0, FIRST);
    // Masquerading, so that answers come back through the node that was asked.
    assert_eq!(world.answered(&web[1]), (FIRST.into(), ip(NODES[1].1)));
    assert_local(&world, &own[0], FIRST, &own[1]);
    world.until_healthy(0, 200);
    world.until_healthy(1, 503);
    // B-431: pods keep their addresses, also across nodes.
    let seen = world.reach(
        &world.pods[away].namespace,
        &format!("{CLUSTER_IP}:80"),
        PATIENCE,
    );
    let Outcome::Answered { seen_source, .. } = seen else {
        panic!("{seen}");
    };
    assert_eq!(seen_source.ip(), ip("10.64.2.99"));

    let mut loops: Vec<ConnectLoop> = web
        .iter()
        .map(|to| world.stream(&world.outside, to))
        .collect();
    let from = &world.pods[away].namespace;
    loops.push(world.stream(from, &format!("{CLUSTER_IP}:80")));
    stream_on(&loops, 100);
    world.pod(SECOND);
    for service in ["web", "own"] {
        world
            .store
            .put("endpointslices", slice(service, &[FIRST, SECOND]));
    }
    for node in [0, 1] {
        world.until_held(node, "second pod", |held| held.contains(SECOND));
    }
    stream_on(&loops, 100);
    for service in ["web", "own"] {
        world.store.put("endpointslices", slice(service, &[SECOND]));
    }
    for node in [0, 1] {
        world.until_held(node, "without the first pod", |held| !held.contains(FIRST));
    }
    // Those under way end; nothing new comes.
    stream_on(&loops, 5);
    world.pods[first].server = None;
    stream_on(&loops, 100);
    end_stream(loops);
    assert_local(&world, &own[1], SECOND, &own[0]);
    world.until_healthy(1, 200);
    world.until_healthy(0, 503);
    assert_eq!(world.health_check(0).unwrap().json()["localEndpoints"], 0);
    // B-432: with the other policy the port of the health check goes and both nodes answer.
    let cluster = json!({"type": "LoadBalancer"});
    let cluster = service("own", "10.96.0.20", 30090, &cluster);
    world.store.put("services", cluster);
    world.until_answered(0, &own[0], SECOND);
    world.until_answered(1, &own[1], SECOND);
    for node in [0, 1] {
        world.until(node, "closed port", |world| {
            world.health_check(node).is_none()
        });
    }
    world.end();
}

/// With the policy Local the node that has the pod shows it the client, and the other is silent.
fn assert_local(world: &World, has: &str, pod: &str, lacks: &str) {
    assert_eq!(world.answered(has), (pod.into(), ip(CLIENT)));
    let none = world.reach(&world.outside, lacks, NO_ANSWER);
    assert!(matches!(none, Outcome::TimedOut), "{lacks}: {none}");
}

/// A client stays with its pod, at node ports and at the ClusterIP, while affinity is on, also when a
/// pod comes; without it all pods answer (B-435).
pub(crate) fn affinity() {
    let sticky = json!({"sessionAffinity": "ClientIP"});
    let mut world = World::new("affinity", |store| {
        store.put("services", service("web", CLUSTER_IP, 30080, &sticky));
        store.put("endpointslices", slice("web", &[FIRST, SECOND]));
    });
    for address in [FIRST, SECOND, "10.64.1.13"] {
        world.pod(address);
    }
    let client = world.pod("10.64.2.99");
    let inside = |world: &World| {
        let from = &world.pods[client].namespace;
        let outcome = world.reach(from, &format!("{CLUSTER_IP}:80"), PATIENCE);
        outcome.pod().map(str::to_owned)
    };
    for node in [0, 1] {
        world.until_held(node, "rules", |held| {
            held.contains(FIRST) && held.contains(SECOND)
        });
    }
    let targets = NODES.map(|(_, address)| format!("{address}:30080"));
    let chosen = targets.each_ref().map(|to| world.answered(to).0);
    let chosen_inside = inside(&world);
    assert!(chosen_inside.is_some());
    let all = [FIRST, SECOND, "10.64.1.13"];
    world.store.put("endpointslices", slice("web", &all));
    for node in [0, 1] {
        world.until_held(node, "third pod", |held| held.contains("10.64.1.13"));
    }
    for _ in 0..20 {
        let again = targets.each_ref().map(|to| world.answered(to).0);
        assert_eq!(again, chosen);
        assert_eq!(inside(&world), chosen_inside);
    }
    world
        .store
        .put("services", service("web", CLUSTER_IP, 30080, &json!({})));
    for (node, to) in targets.iter().enumerate() {
        let missing = RefCell::new(Vec::from(all));
        world.until(node, "answers of all pods", |world| {
            let pod = world.answered(to).0;
            missing.borrow_mut().retain(|one| *one != pod);
            missing.borrow().is_empty()
        });
    }
    let missing = RefCell::new(Vec::from(all));
    world.until(1, "answers of all pods inside", |world| {
        let pod = inside(world);
        missing
            .borrow_mut()
            .retain(|one| Some(*one) != pod.as_deref());
        missing.borrow().is_empty()
    });
    world.end();
}

/// A Service changes its type (B-434), its labels (B-436) and the states of its endpoints (B-437), and
/// all nodes follow, at node ports and the ClusterIP.
pub(crate) fn types_labels_and_readiness() {
    let plain = service("web", CLUSTER_IP, 30080, &json!({}));
    let mut world = World::new("types", |store| {
        store.put("services", plain.clone());
        store.put("endpointslices", slice("web", &[FIRST]));
    });
    world.pod(FIRST);
    let client = world.pod("10.64.2.99");
    world.until_served(client, FIRST);
    let external = json!({
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    });
    let labelled = |label: &str| {
        let mut service = plain.clone();
        service["metadata"]["labels"] = json!({label: "other"});
        service
    };
    for changed in [
        external,
        labelled("service.kubernetes.io/service-proxy-name"),
        labelled("service.kubernetes.io/headless"),
    ] {
        world.store.put("services", changed);
        world.until_gone(client);
        world.store.put("services", plain.clone());
        world.until_served(client, FIRST);
    }
    world.store.put("endpointslices", slice("web", &[]));
    world.until_gone(client);
    for (_, address) in NODES {
        let refused = world.reach(&world.outside, &format!("{address}:30080"), PATIENCE);
        assert!(matches!(refused, Outcome::Refused(_)), "{refused}");
    }
    // With none that is ready, those that end still answer.
    let mut ending = slice("web", &[FIRST]);
    ending["endpoints"][0]["conditions"] =
        json!({"ready": false, "serving": true, "terminating": true});
    world.store.put("endpointslices", ending);
    world.until_served(client, FIRST);
    world.end();
}
