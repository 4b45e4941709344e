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
mod tests;
