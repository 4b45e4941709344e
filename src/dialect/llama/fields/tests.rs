use super::*;

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_deep_grammar_is_refused_and_brackets_in_literals_are_none() {
    let grammar = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        check("grammar", raw(&quoted)).is_ok()
    };
    let deep = |open: &str, close: &str| {
        format!("root ::= {}\"a\"{}", open.repeat(200), close.repeat(200))
    };
    assert!(!grammar(&deep("(", ")")));
    // What would hide groups from a count that knows no literals, classes and comments.
    for hider in [
        "\")\" ",
        "[)] ",
        "# )\n",
        "# \"\n",
        "\"\\\"\" ",
        "[\\]\"] ",
        "<)> ",
    ] {
        assert!(!grammar(&deep(&format!("({hider}"), ")")), "{hider:?}");
    }
    assert!(grammar(&format!("root ::= {}", "\"(\" [(] ".repeat(500))));
    assert!(grammar(&format!("root ::= {}", "(\"a\") ".repeat(500))));
}

#[test]
fn remote_media_are_found_wherever_they_hide() {
    for text in [
        r#"{"type":"input_audio","input_audio":{"data":"http://169.254.169.254/"}}"#,
        r#"{"video_url":{"url":"https://a/"},"type":"video_url"}"#,
        r#"{"type":"text","type":"input_video","input_video":{"url":"file:///etc/passwd"}}"#,
        r#"[{"content":[{"type":"image_url","image_url":{"url":"http://a/"}}]}]"#,
        r#"{"type":"input_image","image_url":"http://a/"}"#,
        r#"{"t\u0079pe":"input_audio","input_audio":{"u\u0072l":"\u0068ttp://a/"}}"#,
    ] {
        assert!(names_remote_media(raw(text)), "{text}");
    }
    for text in [
        r#""http://a/""#,
        r#"{"type":"text","text":"http://a/"}"#,
        r#"{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}"#,
        r#"[["http://a/"],{"type":"object","properties":{"url":{"default":"http://a/"}}}]"#,
    ] {
        assert!(!names_remote_media(raw(text)), "{text}");
    }
}

#[test]
fn only_what_is_harmless_is_kept() {
    let mut extra = Extra::new();
    forward(&mut extra, "id_slot", raw("1")).unwrap();
    forward(&mut extra, "seed", raw("1")).unwrap();
    assert_eq!(extra.len(), 1);
    let stops = format!("[{}\"b\"]", "\"b\",".repeat(1000));
    assert!(forward(&mut extra, "stop", raw(&stops)).is_err());
}

#[test]
fn dangerous_fields_stop_here_and_harmless_ones_pass() {
    for name in [
        "id_slot",
        "speculative.n_max",
        "speculative",
        "grammar_lazy",
        "grammar_triggers",
        "grammar_type",
        "chat_parser",
        "lora",
        "verbose",
        "n_cmpl",
        "__verbose",
    ] {
        assert!(!is_forwardable(name), "{name}");
    }
    for name in [
        "temperature",
        "grammar",
        "seed",
        "logit_bias",
        "min_p",
        "from_the_future",
    ] {
        assert!(is_forwardable(name), "{name}");
    }
}
