//! Addresses, and that what is reachable from elsewhere asks who is there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{Checker, Seen};
use crate::config::schema::{Config, Tls};

impl Checker<'_> {
    pub(super) fn listen(&mut self, config: &mut Config) {
        if config.listen.is_empty() {
            self.error("listen", "needs at least one address");
        }
        let mut seen = Seen::default();
        for (n, listener) in config.listen.iter().enumerate() {
            let path = format!("listen[{n}]");
            let addr_path = match listener.tls {
                Some(_) => format!("{path}.addr"),
                None => path.clone(),
            };
            if let Some(addr) = self.address(&addr_path, &listener.addr) {
                self.free(&mut seen, addr, &addr_path);
                if !addr.ip().is_loopback() && config.auth.keys.is_empty() {
                    self.error(
                        addr_path,
                        "can be reached from other machines, but `auth.keys` is empty: everybody \
                         could use the backends; add a key or listen on loopback",
                    );
                }
            }
            if let Some(tls) = &listener.tls {
                self.tls(&path, tls);
            }
        }

        let token_env = config.admin.token_env.as_mut();
        let has_token = token_env.is_some();
        self.fill("admin.token_env", token_env);
        if let Some(addr) = self.address("admin.addr", &config.admin.addr) {
            self.free(&mut seen, addr, "admin.addr");
            if !addr.ip().is_loopback() && !has_token {
                self.error(
                    "admin.addr",
                    "can be reached from other machines, but `admin.token_env` is not set; set it \
                     or listen on loopback",
                );
            }
        }
    }

    fn address(&mut self, path: &str, text: &str) -> Option<SocketAddr> {
        let localhost = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let address = localhost.or_else(|| text.parse().ok());
        if address.is_none() {
            self.error(
                path,
                format!("`{text}` is no address such as 127.0.0.1:8080 or [::1]:8080"),
            );
        }
        address
    }

    /// Port 0 lets the system choose, so it collides with nothing.
    fn free(&mut self, seen: &mut Seen<SocketAddr>, addr: SocketAddr, path: &str) {
        if addr.port() != 0
            && let Some(first) = seen.before(addr, path)
        {
            self.error(path, format!("{addr} is already taken by `{first}`"));
        }
    }

    fn tls(&mut self, path: &str, tls: &Tls) {
        if cfg!(not(feature = "tls")) {
            self.error(
                format!("{path}.tls"),
                "this drover was built without TLS (cargo feature `tls`)",
            );
        }
        self.pem(&format!("{path}.tls.cert"), &tls.cert, "CERTIFICATE-----");
        self.pem(&format!("{path}.tls.key"), &tls.key, "PRIVATE KEY-----");
    }

    fn pem(&mut self, path: &str, file: &Path, label: &str) {
        match std::fs::read_to_string(file) {
            Err(error) => self.error(path, format!("{}: {error}", file.display())),
            Ok(text) => {
                let found = text.lines().any(|line| {
                    line.starts_with("-----BEGIN ") && line.trim_end().ends_with(label)
                });
                if !found {
                    let what = label.trim_end_matches('-').to_ascii_lowercase();
                    self.error(path, format!("{}: no PEM {what} in it", file.display()));
                }
            }
        }
    }
}
