//! Writing messages of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>) from borrowed values.
//!
//! The generated messages of OTLP own every text, and a trace consists of texts: to build, measure and free them costs
//! each turn several times what writing their bytes at once does. What is written here is decoded by the generated ones
//! in the tests.

/// What follows a field's number.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

/// A message under way.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// An empty one with room for so many bytes.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// What is written so far.
    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field << 3 | wire as u32));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number or a member of an enumeration.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.key(field, Wire::Varint);
        self.varint(value);
    }

    /// A number of eight bytes.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, Wire::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes, or a message that is written already.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, Wire::Bytes);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A message, which `write` writes.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, Wire::Bytes);
        // Its length comes first and is known last. One byte is enough for nearly all; else the message moves.
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - at - 1;
        if let Ok(short @ 0..0x80) = u8::try_from(length) {
            self.0[at] = short;
            return;
        }
        let mut head = Self::default();
        head.varint(length as u64);
        self.0.splice(at..=at, head.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own page.
    #[test]
    fn the_published_examples_are_written_alike() {
        let mut writer = Writer::default();
        writer.number(1, 150);
        assert_eq!(writer.0, [0x08, 0x96, 0x01]);
        let mut writer = Writer::default();
        writer.text(2, "testing");
        assert_eq!(writer.0, b"\x12\x07testing");
        let mut writer = Writer::default();
        writer.message(3, |inner| inner.number(1, 150));
        assert_eq!(writer.0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn a_long_message_has_a_long_length() {
        for length in [0, 1, 120, 125, 126, 127, 128, 129, 16_381, 16_384, 70_000] {
            let text = "x".repeat(length);
            let (mut inner, mut outer) = (Writer::default(), Writer::default());
            inner.text(1, &text);
            outer.message(2, |message| message.text(1, &text));
            let mut expected = Writer::default();
            expected.bytes(2, &inner.0);
            assert!(outer.0 == expected.0, "{length}");
        }
    }
}
