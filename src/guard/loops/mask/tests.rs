use rstest::rstest;

use super::*;

fn hash(text: &str) -> u64 {
    let mut hasher = Xxh3::new();
    feed(&mut hasher, text);
    hasher.digest()
}

#[rstest]
#[case("ok in 0.12s", "ok in 13.5s")]
#[case("finished in 3 seconds", "finished in 44 seconds")]
#[case("took 1m30s", "took 2m1s")]
#[case("took 12ms.", "took 9ms.")]
#[case("at 2026-11-23T18:20:05.123Z: x", "at 2025-01-02T03:04:05.9Z: x")]
#[case("2026-11-23 18:20:05 up", "2026-11-24 00:00:00 up")]
#[case("2026-11-23T18:20:05+02:00 up", "2026-11-24T00:00:00+01:00 up")]
#[case("Mon 18:20:05 UTC", "Mon 9:20:06 UTC")]
#[case("pid 4711 exited", "pid 12 exited")]
#[case("PID: 4711", "PID: 4712")]
#[case("object at 0x7f00aabbcc>", "object at 0x7f00aabbcd>")]
#[case(
    "id 0190b5c0-aaaa-bbbb-cccc-0123456789ab!",
    "id 7190b5c0-aaaa-bbbb-cccc-0123456789ab!"
)]
#[case("wrote /tmp/tmp.Xy12/a.txt", "wrote /tmp/tmp.Zz98/a.txt")]
#[case("since 1795437452", "since 1795437999")]
#[case("\u{e9} 5\u{b5}s \u{e9}", "\u{e9} 6\u{b5}s \u{e9}")]
fn what_differs_from_run_to_run_does_not_count(#[case] one: &str, #[case] two: &str) {
    assert_eq!(hash(one), hash(two));
}

#[rstest]
#[case("3 failed, 5 passed", "2 failed, 6 passed")]
#[case("progress 37%", "progress 38%")]
#[case("src/a.rs:12:34: error", "src/a.rs:13:34: error")]
#[case("v1.2.3", "v1.2.4")]
#[case("step 3", "step 4")]
#[case("5 sheep", "6 sheep")]
#[case("a1s", "a2s")]
#[case("/tmp/notes/a", "/tmp/plans/a")]
#[case("/home/a1/x", "/home/a2/x")]
#[case("port 8080", "port 8081")]
#[case("abcdef12", "abcdef13")]
#[case("", " ")]
fn what_says_something_counts(#[case] one: &str, #[case] two: &str) {
    assert_ne!(hash(one), hash(two));
}

#[test]
fn eight_bytes_together_are_seen_like_one_by_one() {
    for byte in 0..=u8::MAX {
        for length in [1, 7, 8, 9, 17] {
            for at in 0..length {
                for other in [b'a', 0, 0x2c, 0x3a, 0x7f, 0x80, 0xad, 0xff] {
                    let mut bytes = vec![other; length];
                    bytes[at] = byte;
                    let expected = if BEGINS.contains(&byte) { at } else { length };
                    assert_eq!(plain(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }
}

#[test]
fn every_unit_has_a_first_byte_that_is_looked_for() {
    for unit in UNITS {
        assert_eq!(
            hash(&format!("took 1{unit}")),
            hash(&format!("took 2{unit}"))
        );
    }
    for unit in WORDS {
        assert_eq!(
            hash(&format!("took 1 {unit}")),
            hash(&format!("took 2 {unit}"))
        );
    }
}

#[test]
fn any_bytes_are_taken() {
    for text in [
        "1",
        "1:",
        "12:",
        "12:3",
        "2026-",
        "2026-1",
        "0x",
        "1.",
        "1. ",
        "-",
        "/tmp/",
        "1m3",
        "2026-11-23T1:02:03+0",
    ] {
        for end in 0..=text.len() {
            hash(&text[..end]);
        }
    }
}
