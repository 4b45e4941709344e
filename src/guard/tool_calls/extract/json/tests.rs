use super::*;

fn scan(src: &str) -> Vec<String> {
    let mut scan = JsonScan::new(0);
    let mut seen = Vec::new();
    loop {
        match scan.next(src) {
            Scan::Member(key, value) => seen.push(format!("{}={}", &src[key], &src[value])),
            Scan::Element(value) => seen.push(src[value].to_owned()),
            Scan::Complete(end) => {
                seen.push(format!("|{}", &src[end..]));
                return seen;
            }
            other => {
                seen.push(format!("{other:?}"));
                return seen;
            }
        }
    }
}

#[test]
fn members_and_elements_of_the_outermost_value() {
    for (src, expected) in [
        (
            r#"{"a": {"b": [1, "}"]}, "c" :"d\\"} x"#,
            vec![r#""a"={"b": [1, "}"]}"#, r#""c"="d\\""#, "| x"],
        ),
        (
            r#"[1, {"a":2}, "]"]"#,
            vec!["1", r#"{"a":2}"#, r#""]""#, "|"],
        ),
        (r"{'a': 'b', c: true,}", vec!["'a'='b'", "c=true", "|"]),
        ("{}", vec!["|"]),
        ("{\"a\":\"x\ny\"}", vec!["\"a\"=\"x\ny\"", "|"]),
        (r#"{"a":...}"#, vec!["Placeholder"]),
        ("{...}", vec!["Placeholder"]),
        (r#"{"a":"b" c"}"#, vec![r#""a"="b""#, "Confused(9)"]),
        (r#"{"a":1]"#, vec![r#""a"=1"#, "Confused(6)"]),
        (r#"{"a":"b\"#, vec!["More"]),
        (r#"{"a" "b"}"#, vec!["Confused(5)"]),
    ] {
        assert_eq!(scan(src), expected, "{src}");
    }
}

#[test]
fn an_unfinished_member_is_known() {
    for (src, open) in [
        (r#"{"a":{"b":"c"#, Some((1..4, 5))),
        (r#"{"a":"c"#, Some((1..4, 5))),
        (r#"{"a":1,"b":[2"#, Some((7..10, 11))),
        (r#"{"a"#, None),
        (r#"{"a":"#, None),
        (r#"["a"#, None),
    ] {
        let mut scan = JsonScan::new(0);
        while matches!(scan.next(src), Scan::Member(..)) {}
        assert_eq!(scan.open_member(), open, "{src}");
    }
}
