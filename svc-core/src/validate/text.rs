//! Syntax of names, labels and ports. Each function says what is wrong, or nothing.

/// What a DNS-1123 label is.
const LABEL: &str =
    "a DNS label: at most 63 lower-case letters, digits and hyphens, no hyphen at either end";
const SUBDOMAIN: &str = "a DNS subdomain: at most 253 characters, parts of lower-case letters, \
                         digits and hyphens between dots, no hyphen at either end of a part";
const QUALIFIED: &str = "a qualified name: an optional DNS subdomain and a slash, then at most 63 \
                         letters, digits, '-', '_' and '.', a letter or digit at either end";
const LABEL_VALUE: &str = "a label value: empty, or at most 63 letters, digits, '-', '_' and '.', a \
                           letter or digit at either end";
const PORT_NUMBER: &str = "between 1 and 65535";
const PORT_NAME: &str = "a port name: at most 15 lower-case letters, digits and single hyphens, at \
                         least one letter, no hyphen at either end";

pub(super) fn dns_label(text: &str) -> Option<&'static str> {
    (text.len() > 63 || !is_dns_part(text)).then_some(LABEL)
}

pub(super) fn dns_subdomain(text: &str) -> Option<&'static str> {
    (text.len() > 253 || !text.split('.').all(is_dns_part)).then_some(SUBDOMAIN)
}

/// A label key, annotation key, appProtocol or load-balancer class (B-343, B-352).
pub(super) fn qualified_name(text: &str) -> Option<&'static str> {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            if prefix.is_empty() || dns_subdomain(prefix).is_some() {
                return Some(QUALIFIED);
            }
            name
        }
    };
    (name.is_empty() || !is_label_text(name)).then_some(QUALIFIED)
}

pub(super) fn label_value(text: &str) -> Option<&'static str> {
    (!text.is_empty() && !is_label_text(text)).then_some(LABEL_VALUE)
}

pub(super) fn port_number(number: i64) -> Option<&'static str> {
    (!(1..=65_535).contains(&number)).then_some(PORT_NUMBER)
}

/// B-342.
pub(super) fn port_name(text: &str) -> Option<&'static str> {
    let valid = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-');
    (!valid).then_some(PORT_NAME)
}

/// One part of a DNS name, of any length.
fn is_dns_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ends_well(text) && text.bytes().all(inner)
}

fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.len() <= 63 && ends_well(text) && text.bytes().all(inner)
}

fn ends_well(text: &str) -> bool {
    let end = |b: &u8| b.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(end) && bytes.last().is_some_and(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&str) -> Option<&'static str>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), None, "{text:?}");
        }
        for text in bad {
            assert!(rule(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn b342_port_names() {
        check(
            port_name,
            &["http", "a", "1a", "re-mail-ck", "a-1-b-2-c"],
            &[
                "",
                "80",
                "1-2",
                "-a",
                "a-",
                "a--b",
                "HTTP",
                "a_b",
                "a2345678901234567",
            ],
        );
        check(port_name, &["a23456789012345"], &["a234567890123456"]);
    }

    #[test]
    fn b366_labels_may_start_with_a_digit() {
        check(
            dns_label,
            &["a", "1", "0-9", "a-b"],
            &["", "-a", "a-", "A", "a.b", "ä"],
        );
        let long = "a".repeat(63);
        assert_eq!(dns_label(&long), None);
        assert!(dns_label(&(long + "a")).is_some());
    }

    #[test]
    fn b339_subdomains() {
        check(
            dns_subdomain,
            &["a", "a.b.c", "0.example", "a-b.c"],
            &["", ".", "a.", ".a", "a..b", "a.-b", "A.b", "a_b"],
        );
    }

    #[test]
    fn b343_b346_qualified_names_and_label_values() {
        check(
            qualified_name,
            &["a", "A.b_c-1", "kubernetes.io/h2c", "0/0"],
            &["", "/a", "a/", "a/b/c", "A.io/x", "-a", "a-", "a b"],
        );
        check(
            label_value,
            &["", "a", "A_b.c-1"],
            &["-a", "a.", "a/b", "ä"],
        );
    }
}
