//! API keys: their names, their secrets and the pools they open.

use super::{Checker, Seen};
use crate::config::schema::{ApiKey, Config, KeySource};

impl Checker<'_> {
    pub(super) fn auth(&mut self, config: &mut Config) {
        let pools: Vec<String> = config.fleet.pools.iter().map(|p| p.name.clone()).collect();
        let mut names = Seen::default();
        let mut secrets = Seen::default();
        for (n, key) in config.auth.keys.iter_mut().enumerate() {
            let path = format!("auth.keys[{n}]");
            let name_path = format!("{path}.name");
            self.name(&name_path, &key.name);
            if let Some(first) = names.before(key.name.clone(), &name_path) {
                self.error(
                    name_path,
                    format!("`{}` is the name of `{first}` too", key.name),
                );
            }
            if let Some(digest) = self.digest(&path, &key.source) {
                key.set_digest(digest);
                if let Some(first) = secrets.before(digest, &path) {
                    self.error(&path, format!("has the same secret as `{first}`"));
                }
            }
            self.key_pools(&path, key, &pools);
        }
    }

    fn digest(&mut self, path: &str, source: &KeySource) -> Option<[u8; 32]> {
        let secret = match source {
            KeySource::Plain(secret) => self.secret(&format!("{path}.key"), secret.expose()),
            KeySource::Sha256(digits) => {
                let digest = parse_sha256(digits.expose());
                if digest.is_none() {
                    self.error(
                        format!("{path}.key_sha256"),
                        "is no SHA-256: 64 hexadecimal digits are needed",
                    );
                }
                return digest;
            }
            KeySource::Env(variable) => self.variable(&format!("{path}.key_env"), variable),
            KeySource::File(file) => {
                let path = format!("{path}.key_file");
                match std::fs::read_to_string(file) {
                    Ok(text) => self.secret(&path, text.trim()),
                    Err(error) => {
                        self.error(path, format!("{}: {error}", file.display()));
                        None
                    }
                }
            }
        };
        secret.map(|secret| ApiKey::digest_of(secret.expose().as_bytes()))
    }

    fn key_pools(&mut self, path: &str, key: &ApiKey, pools: &[String]) {
        if key.pools.is_empty() {
            self.error(
                format!("{path}.pools"),
                "is empty: the key would open nothing",
            );
        }
        for (n, pattern) in key.pools.iter().enumerate() {
            let path = format!("{path}.pools[{n}]");
            let Some(glob) = self.glob(&path, pattern) else {
                continue;
            };
            let glob = glob.compile_matcher();
            if !pools.iter().any(|pool| glob.is_match(pool)) {
                self.error(path, format!("`{pattern}` matches no pool"));
            }
        }
    }
}

fn parse_sha256(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(digest)
}
