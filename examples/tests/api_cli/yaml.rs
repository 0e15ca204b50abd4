//! YAML as Kubernetes tools print it.

use examples::cli::yaml;
use serde_json::{Value, json};

fn round_trip(value: &Value) {
    let text = yaml::document(value);
    let read: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(&read, value, "{text}");
}

#[test]
fn strings_stay_strings() {
    let odd = [
        "",
        " ",
        "80",
        "8_0",
        "0x1f",
        "0o7",
        "1e3",
        ".5",
        "-1",
        "+1",
        "1.5",
        "12:30:00",
        "2026-01-02",
        "true",
        "No",
        "y",
        "~",
        "null",
        "NULL",
        ".inf",
        ".NaN",
        "-",
        "- a",
        "?",
        "a: b",
        "a:",
        "a #b",
        "#",
        "*",
        "&a",
        "!t",
        "%d",
        "@a",
        "`a",
        "{}",
        "[]",
        "a,b",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "a'b",
        "\t",
        "a\tb",
        "\r",
        "a\rb",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffe}",
        "é",
        "日本",
        "🦀",
        "---",
        "...",
        "--- a",
        "=",
        "<<",
        "fd00::1",
        "fd00::",
        "::",
        "2001:db8::1",
        "10.96.0.1",
        "10.96.0.0/12",
        "1.2.3",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n",
        "a\n\n",
        "\na",
        " a\nb",
        "a\n b\n",
        "a \nb",
        "\n",
        "a\r\nb",
        "a\n---\nb\n",
        "a\n# b\n",
        "a b",
        " a",
        "a ",
        "app.kubernetes.io/name",
        "a\u{0}b",
    ];
    for text in odd {
        round_trip(&json!(text));
        round_trip(&json!({ "key": text }));
        round_trip(&json!([text, [text], { "a": { "b": text } }]));
        round_trip(&json!({ text: { text: [] } }));
    }
}

#[test]
fn shapes_stay_shapes() {
    round_trip(&json!({}));
    round_trip(&json!([]));
    round_trip(&json!(null));
    round_trip(&json!({"a": {}, "b": [], "c": null, "d": [[], {}, [[1, 2], [3]]], "e": -1}));
    round_trip(&json!({"a": [{"b": 1, "c": [{"d": true}, {"e": 1.5}]}, {"f": {"g": []}}]}));
}

#[test]
fn blocks_look_as_kubernetes_tools_print_them() {
    let value = json!({
        "spec": {"ports": [{"port": 80, "name": "http"}], "none": {}},
        "data": {"a": "one\n  two\n", "count": "80"},
        "apiVersion": "v1",
    });
    let expected = "apiVersion: v1\ndata:\n  a: |\n    one\n      two\n  count: \"80\"\nspec:\n  \
                    none: {}\n  ports:\n  - name: http\n    port: 80\n";
    assert_eq!(yaml::document(&value), expected);
}
