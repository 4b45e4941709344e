//! Which part of a call's arguments may go to the client before the call is complete.
//!
//! A file is written by one call with one large text in it. That text is the only part of the call
//! worth showing early, and once it flows it cannot be taken back. So it flows only when the call,
//! closed where it stands, is already good, and when the schema lets the text be any text: then
//! nothing that comes inside the text can make the call bad. What follows the text is held and
//! judged with the whole call.

use serde_json::Value;

/// Length from which a text is worth it, in bytes; a call that is shorter arrives whole soon enough.
const LARGE: usize = 1024;

/// Texts of one call that are tried.
const MAX_TRIALS: u32 = 4;

/// Keywords that say nothing about which text a string may be.
const ANNOTATIONS: &[&str] = &[
    "type",
    "title",
    "description",
    "default",
    "examples",
    "minLength",
    "$comment",
];

/// Keywords of an object's schema under which no argument decides about another.
const PLAIN: &[&str] = &[
    "type",
    "title",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "$schema",
    "$defs",
    "definitions",
    "$comment",
    "$id",
];

/// Follows a call's arguments while they come.
#[derive(Debug, Default)]
pub struct EarlyRelease {
    scan: Scan,
    trials: u32,
    /// Beginning of the text that was tried last.
    tried: Option<usize>,
    /// The text that flows, by its beginning.
    flowing: Option<usize>,
    released: usize,
}

impl EarlyRelease {
    /// How much of `arguments`, which have grown, may be with the client now, in bytes from their
    /// beginning; never less than before.
    ///
    /// `is_good` says whether a call with these arguments could go to the client as they are, and
    /// whether the argument of this name may be any text.
    pub fn grown(&mut self, arguments: &str, is_good: impl FnOnce(&str, &str) -> bool) -> usize {
        self.scan.advance(arguments.as_bytes());
        let Some(text) = &self.scan.text else {
            return self.released;
        };
        if self.flowing == Some(text.begin) {
            self.released = text.whole;
            return self.released;
        }
        if self.tried == Some(text.begin)
            || text.whole - text.begin < LARGE
            || self.trials == MAX_TRIALS
        {
            return self.released;
        }
        self.tried = Some(text.begin);
        self.trials += 1;
        let closed = format!("{}\"}}", &arguments[..text.whole]);
        let key = serde_json::from_str::<String>(&arguments[text.key.0..text.key.1]);
        if key.is_ok_and(|key| is_good(&key, &closed)) {
            self.flowing = Some(text.begin);
            self.released = text.whole;
        }
        self.released
    }

    /// What the client has, in bytes from the beginning.
    pub fn released(&self) -> usize {
        self.released
    }
}

/// Whether the argument `key` may be any text, whatever the others are. Without a schema it may.
pub fn may_be_any_text(schema: Option<&Value>, key: &str) -> bool {
    let Some(schema) = schema else {
        return true;
    };
    let only = |schema: &Value, allowed: &[&str]| {
        let keywords = schema.as_object().into_iter().flatten();
        let mut names = keywords.map(|(name, _)| name.as_str());
        names.all(|name| allowed.contains(&name))
    };
    let property = schema.get("properties").and_then(|all| all.get(key));
    only(schema, PLAIN)
        && match property {
            Some(property) => only(property, ANNOTATIONS),
            None => matches!(
                schema.get("additionalProperties"),
                None | Some(Value::Bool(true))
            ),
        }
}

/// Reads a JSON object as it grows, as far as it looks like one: whether it is one is judged later.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    string: Option<Inside>,
    escape: Escape,
    begin: usize,
    /// In the outermost object: a key comes next, not a value.
    expects_key: bool,
    key: (usize, usize),
    /// The text of the outermost object that is being written.
    text: Option<Text>,
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Key,
    Text,
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Backslash,
    /// Hexadecimal digits to come.
    Unicode(u8),
}

#[derive(Debug)]
struct Text {
    /// Where its key is written, quotes included.
    key: (usize, usize),
    /// After its opening quote.
    begin: usize,
    /// Up to here no escape and no character is half there.
    whole: usize,
}

impl Scan {
    fn advance(&mut self, bytes: &[u8]) {
        while self.at < bytes.len() && !self.lost {
            let byte = bytes[self.at];
            match self.string {
                Some(inside) => self.in_string(inside, byte),
                None => self.between(byte),
            }
            self.at += 1;
        }
        if let Some(text) = &mut self.text
            && self.escape == Escape::None
            && !self.lost
        {
            text.whole = self.at;
        }
    }

    fn in_string(&mut self, inside: Inside, byte: u8) {
        match (self.escape, byte) {
            (Escape::Unicode(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.escape = match left {
                    1 => Escape::None,
                    left => Escape::Unicode(left - 1),
                };
            }
            (Escape::Backslash, b'u') => self.escape = Escape::Unicode(4),
            (Escape::Backslash, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.escape = Escape::None;
            }
            (Escape::None, b'\\') => {
                self.settle();
                self.escape = Escape::Backslash;
            }
            (Escape::None, b'"') => self.close(inside),
            (Escape::None, 0x20..) => {}
            // Not JSON. It may be repaired, with everything from here on.
            _ => {
                self.settle();
                self.lost = true;
            }
        }
    }

    /// Everything before this byte is whole, unless an escape was under way.
    fn settle(&mut self) {
        if let Some(text) = &mut self.text
            && self.escape == Escape::None
        {
            text.whole = self.at;
        }
    }

    fn close(&mut self, inside: Inside) {
        self.string = None;
        self.text = None;
        if inside == Inside::Key {
            self.key = (self.begin, self.at + 1);
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                self.lost = self.depth == 0 && byte == b'[';
                self.depth += 1;
                self.expects_key = self.depth == 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.lost = self.depth == 0;
            }
            b',' => self.expects_key = self.depth == 1,
            b':' => self.expects_key = false,
            b'"' if self.depth > 0 => self.open(),
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => self.lost = self.depth == 0,
        }
    }

    fn open(&mut self) {
        self.begin = self.at;
        let inside = match (self.depth, self.expects_key) {
            (1, true) => Inside::Key,
            (1, false) => Inside::Text,
            _ => Inside::Other,
        };
        self.string = Some(inside);
        if inside == Inside::Text {
            self.text = Some(Text {
                key: self.key,
                begin: self.at + 1,
                whole: self.at + 1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What has been released after each byte of `arguments`; every call that is JSON is good.
    fn follow(arguments: &str) -> Vec<usize> {
        let mut early = EarlyRelease::default();
        let ends = (1..=arguments.len()).filter(|&end| arguments.is_char_boundary(end));
        ends.map(|end| {
            early.grown(&arguments[..end], |_, closed| {
                serde_json::from_str::<Value>(closed).is_ok()
            })
        })
        .collect()
    }

    #[test]
    fn the_large_text_flows_and_nothing_else_does() {
        let text = "x".repeat(LARGE + 100);
        let arguments = format!(r#"{{"path": "/a/b", "content": "{text}", "mode": 7}}"#);
        let steps = follow(&arguments);
        let begin = arguments.find("xx").unwrap();
        let end = begin + text.len();
        assert_eq!(steps[begin + LARGE - 2], 0, "not large yet");
        assert_eq!(steps[begin + LARGE - 1], begin + LARGE);
        assert_eq!(steps[end - 1], end);
        assert_eq!(steps.last(), Some(&end), "what follows the text is held");
    }

    #[test]
    fn half_an_escape_is_not_released() {
        let text = "x".repeat(LARGE);
        let arguments = format!(r#"{{"content": "{text}\u00e9\n"#);
        let steps = follow(&arguments);
        let begin = arguments.find('\\').unwrap();
        for (at, step) in steps.iter().enumerate().skip(begin) {
            let whole = match at - begin {
                0..5 => begin,
                5..7 => begin + 6,
                _ => begin + 8,
            };
            assert_eq!(*step, whole, "after byte {at}");
        }
    }

    #[test]
    fn what_will_need_repair_stops_the_flow() {
        let text = "x".repeat(LARGE);
        for bad in ["\n", "\\x", "\\u12g4"] {
            let arguments = format!(r#"{{"content": "{text}{bad} and {text}"}}"#);
            let begin = arguments.find("xx").unwrap();
            assert_eq!(follow(&arguments).last(), Some(&(begin + LARGE)), "{bad:?}");
        }
    }

    #[test]
    fn a_text_inside_something_else_is_held() {
        let text = "x".repeat(2 * LARGE);
        for arguments in [
            format!(r#"{{"edits": [{{"new": "{text}"}}], "a": ["{text}"]}}"#),
            format!(r#"["{text}"]"#),
            format!(r#""{text}""#),
            format!("'{text}'"),
            format!(r#"{{"{text}": 1}}"#),
            format!("```json\n{{\"content\": \"{text}\"}}"),
        ] {
            assert_eq!(follow(&arguments).last(), Some(&0), "{}", &arguments[..20]);
        }
    }

    #[test]
    fn a_text_that_is_refused_is_tried_once_and_the_next_one_again() {
        let text = "x".repeat(2 * LARGE);
        let arguments = format!(r#"{{"old": "{text}", "new": "{text}"}}"#);
        let mut asked = Vec::new();
        let mut early = EarlyRelease::default();
        for end in 1..=arguments.len() {
            early.grown(&arguments[..end], |key, _| {
                asked.push(key.to_owned());
                key == "new"
            });
        }
        assert_eq!(asked, ["old", "new"]);
        assert_eq!(early.released(), arguments.len() - 2);
    }

    #[test]
    fn only_a_text_without_conditions_may_flow() {
        let schema = |property: Value| json!({"type": "object", "properties": {"content": property}, "required": ["content"]});
        let free = [
            json!({"type": "string", "description": "All of it."}),
            json!({}),
        ];
        for property in free {
            assert!(
                may_be_any_text(Some(&schema(property.clone())), "content"),
                "{property}"
            );
        }
        for property in [
            json!({"type": "string", "maxLength": 5000}),
            json!({"type": "string", "pattern": "^a"}),
            json!({"enum": ["a"]}),
            json!({"$ref": "#/$defs/a"}),
            json!({"anyOf": [{"type": "string"}]}),
            json!({"type": "string", "contentMediaType": "application/json"}),
        ] {
            assert!(
                !may_be_any_text(Some(&schema(property.clone())), "content"),
                "{property}"
            );
        }
        for keyword in [
            "anyOf",
            "if",
            "dependentSchemas",
            "maxProperties",
            "patternProperties",
        ] {
            let mut schema = schema(json!({"type": "string"}));
            schema[keyword] = json!({});
            assert!(!may_be_any_text(Some(&schema), "content"), "{keyword}");
        }
        assert!(may_be_any_text(None, "content"));
        let closed = json!({"properties": {}, "additionalProperties": false});
        assert!(!may_be_any_text(Some(&closed), "content"));
    }

    proptest! {
        /// Whatever is released of arguments that are JSON is a beginning of them, and grows.
        #[test]
        fn releases_only_grow(
            path in "[a-z\"\\\\]{0,20}",
            content in proptest::collection::vec(
                prop::sample::select(vec!["word ", "\n", "\"", "\\", "é", "\u{1f600}", "\u{1}", "}"]),
                900..1500,
            ),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let arguments = json!({"a_path": path, "content": content.concat()}).to_string();
            let mut ends: Vec<usize> = cuts
                .iter()
                .map(|cut| cut.index(arguments.len()))
                .filter(|&end| arguments.is_char_boundary(end))
                .chain([arguments.len()])
                .collect();
            ends.sort_unstable();
            let mut early = EarlyRelease::default();
            let mut before = 0;
            for end in ends {
                let released = early.grown(&arguments[..end], |_, closed| {
                    serde_json::from_str::<Value>(closed).is_ok()
                });
                prop_assert!(before <= released && released <= end);
                prop_assert!(arguments.is_char_boundary(released));
                before = released;
            }
        }
    }
}
