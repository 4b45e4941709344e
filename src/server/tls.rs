//! TLS of listeners, checked before anything is bound.

use std::path::PathBuf;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::tls::{
    ServerConfig, install_default_crypto_provider, load_certs_and_key_files, version,
};
use thiserror::Error;

/// A certificate and key that cannot be used.
#[derive(Debug, Error)]
#[error("cannot use certificate {} with key {}: {reason}", cert.display(), key.display())]
pub struct TlsError {
    /// PEM file of the certificate chain.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    reason: String,
}

/// Settings for one listener: TLS 1.2 and 1.3, HTTP/2 by ALPN.
///
/// # Errors
/// When a file cannot be read, or the key does not belong to the certificate. Pingora would find
/// out by a panic inside its service task, which leaves a process that serves nothing.
pub(super) fn settings(cert: &PathBuf, key: &PathBuf) -> Result<TlsSettings, TlsError> {
    let usable = || {
        let text = |path: &PathBuf| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| "the path is not UTF-8".to_owned())
        };
        let (cert, key) = (text(cert)?, text(key)?);
        install_default_crypto_provider();
        let (certs, private_key) = load_certs_and_key_files(&cert, &key)
            .map_err(|e| e.to_string())?
            .ok_or("no certificate or no key in it")?;
        ServerConfig::builder_with_protocol_versions(&[&version::TLS12, &version::TLS13])
            .with_no_client_auth()
            .with_single_cert(certs, private_key)
            .map_err(|e| e.to_string())?;
        let mut settings = TlsSettings::intermediate(&cert, &key).map_err(|e| e.to_string())?;
        settings.enable_h2();
        Ok(settings)
    };
    usable().map_err(|reason: String| TlsError {
        cert: cert.clone(),
        key: key.clone(),
        reason,
    })
}
