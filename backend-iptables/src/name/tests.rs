use super::*;

fn anchor(ip: &str, kind: FrontendKind) -> Anchor {
    Anchor {
        ip: ip.parse().ok(),
        kind,
        protocol: Protocol::Tcp,
        port: 80,
    }
}

#[test]
fn names_fit_and_say_what_they_are() {
    let kinds = [
        ChainKind::Sources,
        ChainKind::Routes,
        ChainKind::Cluster,
        ChainKind::Local,
    ];
    for ip in ["10.96.0.12", "fd10:96::c", ""] {
        for frontend in [FrontendKind::ClusterIp, FrontendKind::ExternalIp] {
            let anchor = anchor(ip, frontend);
            for kind in kinds {
                let name = anchor.chain(kind, Some(255));
                assert!(name.as_str().ends_with("ff"), "{name} is cut");
                assert_eq!(classify(name), Class::Service, "{name}");
            }
            let pin = anchor.pin("10.1.0.1:8080".parse().unwrap());
            assert_eq!(classify(pin), Class::Service, "{pin}");
            assert!(
                pin.is_pin(IpFamily::V4) && !pin.is_pin(IpFamily::V6),
                "{pin}"
            );
        }
    }
    for tree in Tree::ALL {
        for ip in [None, "10.96.0.0".parse().ok(), "fd10:96::".parse().ok()] {
            for (bits, tail) in [(20, None), (112, None), (116, Some((Protocol::Tcp, 80)))] {
                let place = NodePlace {
                    tree,
                    ip,
                    bits: if ip.is_some_and(|ip: IpAddr| ip.is_ipv6()) {
                        bits
                    } else {
                        bits % 64
                    },
                    tail,
                };
                let name = place.chain();
                assert!(name.as_str().len() <= ChainName::MAX);
                assert_eq!(classify(name), Class::Node(tree), "{name}");
            }
        }
    }
}

#[test]
fn a_callee_sorts_after_its_callers() {
    for ip in ["10.96.0.12", "fd10:96::c"] {
        let anchor = anchor(ip, FrontendKind::ClusterIp);
        let chain = |kind| anchor.chain(kind, None);
        let pin = anchor.pin("10.1.0.1:8080".parse().unwrap());
        let order = [
            chain(ChainKind::Sources),
            chain(ChainKind::Routes),
            chain(ChainKind::Cluster),
            anchor.chain(ChainKind::Cluster, Some(1)),
            chain(ChainKind::Local),
            pin,
        ];
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[test]
fn the_longest_names_are_not_cut() {
    let anchor = anchor("2001:db8::1", FrontendKind::ExternalIp);
    let name = anchor.chain(ChainKind::Cluster, Some(7));
    assert_eq!(name.as_str().len(), 28);
    assert!(ChainName::new("SVC-a-name-that-is-longer-than-it-may-be").is_none());
    assert!(ChainName::new("").is_none());
    assert!(ChainName::new("two words").is_none());
}
