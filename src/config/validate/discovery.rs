//! Where backends are found.

use url::{Host, Url};

use super::Checker;
use crate::config::Endpoint;
use crate::config::schema::{Discovery, KubernetesSource};

impl Checker<'_> {
    pub(super) fn discovery(&mut self, path: &str, discovery: &mut Discovery) {
        let sources = [
            discovery.file.is_some(),
            discovery.dns.is_some(),
            discovery.srv.is_some(),
            discovery.kubernetes.is_some(),
            discovery.router.is_some(),
        ];
        let count = sources.into_iter().filter(|there| *there).count();
        if count != 1 {
            self.error(
                path,
                format!(
                    "needs exactly one of `file`, `dns`, `srv`, `kubernetes` and `router`, found {count}"
                ),
            );
        }
        if let Some(file) = &discovery.file {
            self.positive(format!("{path}.file.every"), file.every);
        }
        if let Some(dns) = &discovery.dns {
            self.not_empty(format!("{path}.dns.name"), &dns.name);
            self.positive(format!("{path}.dns.refresh"), dns.refresh);
        }
        if let Some(srv) = &discovery.srv {
            self.not_empty(format!("{path}.srv.name"), &srv.name);
            self.positive(format!("{path}.srv.refresh"), srv.refresh);
        }
        if let Some(kubernetes) = &discovery.kubernetes {
            self.kubernetes(&format!("{path}.kubernetes"), kubernetes);
        }
        if let Some(router) = &discovery.router {
            self.positive(format!("{path}.router.every"), router.every);
            if let Err(why) = Endpoint::parse(&router.url) {
                self.error(format!("{path}.router.url"), why);
            }
        }
        let key = discovery.backend.api_key_env.as_mut();
        self.fill(&format!("{path}.backend.api_key_env"), key);
    }

    fn kubernetes(&mut self, path: &str, source: &KubernetesSource) {
        // It becomes a part of a label's value and of a path.
        let is_label = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        if !is_label(&source.service) {
            self.error(format!("{path}.service"), "is no name of a service");
        }
        if source.namespace.as_deref().is_some_and(|n| !is_label(n)) {
            self.error(format!("{path}.namespace"), "is no name of a namespace");
        }
        let Some(server) = &source.server else {
            return;
        };
        let on_loopback = |url: &Url| match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let mistake = match Url::parse(server) {
            Err(error) => format!("`{server}` is no URL: {error}"),
            Ok(url) if url.scheme() == "https" && cfg!(feature = "tls") => return,
            Ok(url) if url.scheme() == "https" => {
                "this drover was built without TLS (cargo feature `tls`)".to_owned()
            }
            Ok(url) if url.scheme() == "http" && on_loopback(&url) => return,
            Ok(_) => "must be `https://…`, or `http://…` on loopback".to_owned(),
        };
        self.error(format!("{path}.server"), mistake);
    }

    fn not_empty(&mut self, path: String, text: &str) {
        if text.trim().is_empty() {
            self.error(path, "must not be empty");
        }
    }
}
