//! Secrets in texts, by patterns kept here.

use once_cell::sync::Lazy;
use regex::{Regex, RegexSet};

/// Forms of well-known credentials; each is long and particular enough that prose does not match.
const PATTERNS: &[&str] = &[
    r"AKIA[0-9A-Z]{16}",
    r"ASIA[0-9A-Z]{16}",
    r"(?i)aws_secret_access_key\s*[=:]\s*['\x22]?[A-Za-z0-9/+=]{40}",
    r"gh[pousr]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{60,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"sk-ant-[A-Za-z0-9_-]{20,}",
    r"sk-(?:proj-)?[A-Za-z0-9_-]{32,}",
    r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"AIza[0-9A-Za-z_-]{35}",
    r"ya29\.[0-9A-Za-z_-]{20,}",
    r"(?:sk|rk)_live_[0-9A-Za-z]{20,}",
    r"npm_[A-Za-z0-9]{36}",
    r"hf_[A-Za-z0-9]{30,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY(?: BLOCK)?-----",
    r"(?i)(?:postgres|mysql|mongodb|redis|amqp)(?:ql)?(?:\+srv)?://[^\s:@/]+:[^\s:@/]{3,}@",
    r"(?i)\b(?:password|passwd|secret|api_?key|access_?token|auth_?token)\s*[=:]\s*['\x22][^'\x22\s$<{]{8,}['\x22]",
];

#[expect(
    clippy::expect_used,
    reason = "patterns of this file; a test builds them"
)]
static SET: Lazy<RegexSet> = Lazy::new(|| RegexSet::new(PATTERNS).expect("patterns"));

#[expect(
    clippy::expect_used,
    reason = "patterns of this file; a test builds them"
)]
static ANY: Lazy<Regex> = Lazy::new(|| {
    let all: Vec<String> = PATTERNS.iter().map(|p| format!("(?:{p})")).collect();
    Regex::new(&all.join("|")).expect("patterns")
});

/// Whether `text` holds something that looks like a credential.
pub fn found(text: &str) -> bool {
    SET.is_match(text)
}

/// `text` with credentials replaced.
pub fn redact(text: &str) -> String {
    if !found(text) {
        return text.to_owned();
    }
    ANY.replace_all(text, "[redacted]").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_and_prose_is_not() {
        let aws = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        for secret in [
            aws.as_str(),
            "password = \"hunter2hunter2\"",
            "-----BEGIN RSA PRIVATE KEY-----",
            "postgres://app:s3cret@db/x",
        ] {
            assert!(found(secret), "{secret}");
            assert!(!redact(&format!("a {secret} b")).contains(secret));
        }
        for prose in [
            "the password is asked for",
            "sk-learn",
            "let token = env(\"TOKEN\");",
            "api_key: ${API_KEY}",
            "fix: ask the api key from the environment",
        ] {
            assert!(!found(prose), "{prose}");
        }
    }
}
