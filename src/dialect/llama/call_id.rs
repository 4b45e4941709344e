//! Ids of tool calls for templates that accept only their own form (Mistral-Nemo and later: "Tool call
//! IDs should be alphanumeric strings with length 9").

use xxhash_rust::xxh3::xxh3_64;

const LENGTH: usize = 9;

/// An id of nine digits and lower-case letters that stands for `id`, always the same one; none if `id`
/// has an accepted form itself.
pub(super) fn shortened(id: &str) -> Option<String> {
    if id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut hash = xxh3_64(id.as_bytes());
    let mut digit = || {
        let digit = DIGITS[(hash % 36) as usize];
        hash /= 36;
        char::from(digit)
    };
    Some((0..LENGTH).map(|_| digit()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_ids_stay_and_others_become_one_that_is_accepted() {
        assert_eq!(shortened("aB3dE6gH9"), None);
        for id in [
            "",
            "toolu_01A",
            "call_1",
            "aB3dE6gH",
            "aB3dE6gH90",
            "äB3dE6gH",
            &"x".repeat(4000),
        ] {
            let short = shortened(id).unwrap();
            assert_eq!(shortened(&short), None, "{id} became {short}");
            assert_eq!(shortened(id), Some(short), "always the same");
        }
    }

    #[test]
    fn different_ids_stay_different() {
        let ids: std::collections::BTreeSet<_> = (0..10_000)
            .filter_map(|n| shortened(&format!("toolu_{n}")))
            .collect();
        assert_eq!(ids.len(), 10_000);
    }
}
