//! TLS by certificate files: reading them, saying what is wrong with them, and taking new ones while the server runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use roundtable_core::time::Time;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::secrets::write_private;
use crate::clock;
use crate::config::listen::TlsFiles;
use crate::config::{Config, Listeners};

pub mod renewal;

/// Name of the file in the data directory that says which certificates are presented, so that the command line knows its
/// own server.
pub const FILE: &str = "certificates.json";

/// A certificate, as far as people and rules look at it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Whom it names, such as `CN=localhost`.
    pub subject: String,
    /// When its life ends.
    pub not_after: Time,
    /// SHA-256 of its DER form, in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Certificate {
    /// Reads one in DER form. Fails when it is none.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, read) = x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
        Ok(Self {
            subject: read.subject().to_string(),
            not_after: Time(read.validity().not_after.timestamp().saturating_mul(1_000)),
            fingerprint: fingerprint(der),
        })
    }

    /// Whether its life has ended.
    pub fn expired(&self, now: Time) -> bool {
        self.not_after < now
    }
}

/// SHA-256 of a certificate's DER form, in lower-case hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The way in for handshakes, and what clients are shown there.
struct Presented {
    config: Arc<ServerConfig>,
    /// The server's own first, then those that vouch for it.
    chain: Vec<Certificate>,
}

/// A certificate and its key, as files say them; new handshakes use the newest that could be read.
pub struct Pair {
    files: TlsFiles,
    presented: ArcSwap<Presented>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pair({})", self.files.certificate.display())
    }
}

impl Pair {
    /// Reads the files. Fails with what is wrong with them, a line for each fault.
    pub fn open(files: TlsFiles) -> Result<Self, Vec<String>> {
        let presented = ArcSwap::from_pointee(load(&files)?);
        Ok(Self { files, presented })
    }

    /// Reads the files again. What was read before stays in force if they are broken now.
    pub fn reload(&self) -> Result<(), Vec<String>> {
        self.presented.store(Arc::new(load(&self.files)?));
        Ok(())
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.presented.load().config)
    }

    /// The server's own certificate, then those that vouch for it.
    pub fn chain(&self) -> Vec<Certificate> {
        self.presented.load().chain.clone()
    }
}

/// The pairs of all listeners; listeners with the same files share one.
#[derive(Debug, Default)]
pub struct Pairs(Vec<Arc<Pair>>);

impl Pairs {
    /// Reads the files of all listeners. Fails with everything that is wrong.
    pub fn open(listeners: &Listeners) -> Result<Self, Vec<String>> {
        let (mut pairs, mut problems) = (Self::default(), Vec::new());
        for files in listeners.as_slice().iter().filter_map(|listener| listener.tls.as_ref()) {
            if pairs.of(files).is_none() {
                match Pair::open(files.clone()) {
                    Ok(pair) => pairs.0.push(Arc::new(pair)),
                    Err(found) => problems.extend(found),
                }
            }
        }
        // Listeners with the same broken files have the same problems.
        problems.dedup();
        if problems.is_empty() { Ok(pairs) } else { Err(problems) }
    }

    /// The pair of a listener.
    pub fn of(&self, files: &TlsFiles) -> Option<Arc<Pair>> {
        self.0.iter().find(|pair| pair.files == *files).cloned()
    }

    /// Every certificate that is presented now, with those that vouch for it.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0.iter().flat_map(|pair| pair.chain()).collect()
    }

    /// Notes in the data directory which certificates are the server's own.
    pub fn note(&self, dir: &Path) -> std::io::Result<()> {
        let own: Vec<Certificate> =
            self.0.iter().filter_map(|pair| pair.chain().into_iter().next()).collect();
        if own.is_empty() {
            return Ok(());
        }
        write_private(&dir.join(FILE), &own)
    }
}

/// Whether nothing goes over a wire in the clear: TLS is on, and every address that other machines can reach has it.
pub fn encrypts(listeners: &Listeners) -> bool {
    let all = listeners.as_slice();
    let reachable = |address: &std::net::SocketAddr| !address.ip().to_canonical().is_loopback();
    all.iter().any(|listener| listener.tls.is_some())
        && all.iter().all(|listener| listener.tls.is_some() || !reachable(&listener.address))
}

/// What is worth saying about certificates that can be used: their life has ended.
pub fn warnings(config: &Config) -> Vec<String> {
    let now = clock::now();
    let pairs = Pairs::open(&config.server.listen).unwrap_or_default();
    let expired = pairs.certificates().into_iter().filter(|certificate| certificate.expired(now));
    expired.map(|certificate| expiry(&certificate)).collect()
}

fn expiry(certificate: &Certificate) -> String {
    let end = roundtable_dialects::iso::iso(certificate.not_after);
    format!("the certificate of {} expired at {end}", certificate.subject)
}

fn load(files: &TlsFiles) -> Result<Presented, Vec<String>> {
    let mut problems = Vec::new();
    let mut read = |path: &Path| {
        let named = |error| problems.push(format!("{}: {error}", path.display()));
        std::fs::read(path).map_err(named).ok()
    };
    let (certificates, key) = (read(&files.certificate), read(&files.key));
    let chain = certificates.and_then(|bytes| match chain_of(&bytes) {
        Ok(chain) => Some(chain),
        Err(what) => {
            problems.push(format!("{}: {what}", files.certificate.display()));
            None
        }
    });
    let key = key.and_then(|bytes| match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(error) => {
            problems.push(format!("{}: holds no private key in PEM form: {error}", files.key.display()));
            None
        }
    });
    let (Some((ders, chain)), Some(key)) = (chain, key) else { return Err(problems) };
    let config = config(ders, key).map_err(|error| {
        let what = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("does not fit the certificate in {}", files.certificate.display())
            }
            other => format!("cannot be used with {}: {other}", files.certificate.display()),
        };
        vec![format!("{}: {what}", files.key.display())]
    })?;
    Ok(Presented { config: Arc::new(config), chain })
}

type Chain = (Vec<CertificateDer<'static>>, Vec<Certificate>);

fn chain_of(pem: &[u8]) -> Result<Chain, String> {
    let ders: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds no certificate in PEM form: {error}"))?;
    if ders.is_empty() {
        return Err("holds no certificate in PEM form".into());
    }
    let chain = ders.iter().map(|der| Certificate::read(der)).collect::<Result<_, _>>()?;
    Ok((ders, chain))
}

/// Its cache of sessions is its own: after a renewal nobody resumes what the old certificate vouched for.
fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // A client that knows the older one alone is served as the newer says: it is told what it gets.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
