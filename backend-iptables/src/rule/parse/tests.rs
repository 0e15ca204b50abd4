use proptest::prelude::*;

use super::*;

/// Read and written again, a line of either variant is what it was, but for defaults.
#[track_caller]
fn check(saved: &str, written: &str) {
    let rule = Rule::parse(saved);
    assert_eq!(rule.to_string(), written);
    assert_eq!(Rule::parse(written), rule);
}

#[track_caller]
fn same(text: &str) {
    check(text, text);
    let opaque = |m: &Match| matches!(m, Match::Opaque(_));
    assert!(!Rule::parse(text).matches().iter().any(opaque), "{text}");
}

#[test]
fn every_kind_of_our_rules_survives() {
    same("! -s 10.0.0.0/8 -j MARK --set-xmark 0x4000/0x4000");
    same("-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -g SVC-0a60000a-t00080c");
    same("-p udp -m udp --dport 0:40 -j SVC-X");
    same("-d fd00::1/128 -p sctp -m sctp --dport 80 -j DNAT --to-destination [fd10::1]:80");
    same(
        "-p tcp -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.1.0.1:8080",
    );
    same(
        "-m conntrack --ctstate DNAT -m bpf --bytecode \"6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 1,6 0 0 0\" -j MASQUERADE --random-fully",
    );
    same("-m mark ! --mark 0x8000/0x8000 -m addrtype --dst-type LOCAL -j SVC-NODEPORTS");
    same("! -i cni0 -m addrtype --src-type LOCAL -j RETURN");
    same("-m set --match-set SVC-a src -g SVC-a");
    same("-j SET --add-set SVC-a src --exist --timeout 300");
    same("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP");
    same("-m comment --comment \"a \\\"b\\\" c\" -j ACCEPT");
    same("-j MASQUERADE");
}

#[test]
fn defaults_are_left_out() {
    check(
        "-p tcp -m recent --update --seconds 9 --reap --name SVC-a --mask 255.255.255.255 --rsource -j RETURN",
        "-p tcp -m recent --update --seconds 9 --reap --name SVC-a --rsource -j RETURN",
    );
    check(
        "-j REJECT --reject-with icmp6-port-unreachable",
        "-j REJECT",
    );
    check(
        "-m mark --mark 1 -j DROP",
        "-m mark --mark 0x1/0xffffffff -j DROP",
    );
}

#[test]
fn what_is_not_known_is_kept_with_the_chain_it_leads_to() {
    let rule = Rule::parse("-p tcp -m multiport --dports 1,2 -j SVC-SERVICES");
    assert_eq!(rule.callee(), ChainName::new("SVC-SERVICES"));
    assert!(matches!(rule.matches(), [Match::Opaque(_)]));
    let log = Rule::parse("-j LOG --log-prefix \"a b\"");
    assert!(matches!(log.target(), Target::Opaque(_)));
    assert!(matches!(
        Rule::parse("-j TRACE").target(),
        Target::Opaque(_)
    ));
}

#[test]
fn what_no_tool_prints_reads_the_same_again() {
    for text in [
        "-d 451.0.2.1/32 -g SVC-a --dst-type LOCAL -j SVC-b",
        "-m tcp -g SVC-a --dport 80",
        "-x -j SVC-a -j SVC-a",
        "-x -j  SVC-a ",
        "-i \"a  b\" -j SVC-a",
        "-j LOG --log-prefix \"a  b\"",
        "-j LOG --log-prefix \"a b\\",
        "-j LOG --log-prefix \"\"",
        "! -j SVC-a",
        "-m recent --set --name a\t",
    ] {
        let rule = Rule::parse(text);
        assert_eq!(Rule::parse(&rule.to_string()), rule, "{text}");
    }
}

#[test]
fn lines_are_told_apart() {
    assert_eq!(parse_line("*nat"), Line::Table("nat"));
    assert_eq!(parse_line(":SVC-A - [0:0]"), Line::Chain("SVC-A"));
    assert_eq!(parse_line("[3:4] -A X -j Y"), Line::Append("X", "-j Y"));
    assert_eq!(parse_line("-A X"), Line::Append("X", ""));
    assert_eq!(parse_line("COMMIT"), Line::Commit);
    assert_eq!(parse_line("# comment"), Line::Other);
    assert_eq!(parse_line("[broken"), Line::Other);
}

proptest! {
    #[test]
    fn probabilities_survive(part in 1usize..5000, more in 1usize..5000) {
        let probability = Probability::of(part, part + more).unwrap();
        let read: f64 = probability.to_string().parse().unwrap();
        prop_assert_eq!(Probability::nearest(read), Some(probability));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([!\\-a-zA-Z0-9_/.:,\" \\\\]|é){0,80}") {
        let rule = Rule::parse(&text);
        let again = Rule::parse(&rule.to_string());
        prop_assert_eq!(again.to_string(), rule.to_string());
        let _ = parse_line(&text);
    }

    #[test]
    fn no_shuffle_of_words_makes_the_parser_panic(
        words in proptest::collection::vec(prop::sample::select(vec![
            "-s", "-d", "-i", "-p", "-m", "-j", "-g", "!", "tcp", "recent", "--set", "--name",
            "--mask", "conntrack", "--ctstate", "NEW", "set", "--match-set", "src", "DNAT",
            "--to-destination", "1.2.3.4:5", "MARK", "--set-xmark", "0x1/0x2", "\"", "SET",
        ]), 0..12),
    ) {
        let rule = Rule::parse(&words.join(" "));
        prop_assert_eq!(Rule::parse(&rule.to_string()).to_string(), rule.to_string());
    }
}
