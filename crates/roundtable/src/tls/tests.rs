//! What is said about certificate files, good and bad.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::{Certificate, Pair, Pairs, encrypts, warnings};
use crate::config::listen::{Listener, TlsFiles};
use crate::config::{Config, Listeners};

/// Somebody who vouches for certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate that lasts until the second day of a year, and its key, into a folder.
    pub fn issue(&self, dir: &Path, name: &str, until: i32) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(until, 1, 2);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let files = TlsFiles { certificate: dir.join("certificate.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.certificate, signed.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

pub fn listeners(files: &TlsFiles) -> Listeners {
    let listener: Listener = "127.0.0.1:0".parse().unwrap();
    Listeners::of(vec![Listener { tls: Some(files.clone()), ..listener }])
}

#[test]
fn a_good_pair_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.issue(dir.path(), "one.example", 2999);
    let alone = Pair::open(files.clone()).unwrap().chain();
    let [Certificate { subject, not_after, fingerprint }] = alone.as_slice() else { panic!("{alone:?}") };
    assert_eq!(subject, "CN=one.example");
    assert_eq!(roundtable_dialects::iso::iso(*not_after), "2999-01-02T00:00:00.000Z");
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
    let whole = std::fs::read_to_string(&files.certificate).unwrap() + &authority.pem;
    std::fs::write(&files.certificate, whole).unwrap();
    assert_eq!(Pair::open(files).unwrap().chain().len(), 2, "and who vouches for it");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (missing, absent) = (dir.path().join("missing"), dir.path().join("absent"));
    let nothing = TlsFiles { certificate: missing, key: absent };
    let problems = Pairs::open(&listeners(&nothing)).unwrap_err();
    assert!(problems[0].contains("missing: ") && problems[1].contains("absent: "), "{problems:?}");

    let authority = Authority::new();
    let good = authority.issue(dir.path(), "one.example", 2999);
    let another = authority.issue(other.path(), "two.example", 2999);
    let wrong = TlsFiles { key: another.key.clone(), ..good.clone() };
    let problems = Pairs::open(&listeners(&wrong)).unwrap_err();
    assert!(problems[0].contains("does not fit the certificate in"), "{problems:?}");

    let swapped = TlsFiles { certificate: good.key.clone(), key: good.certificate.clone() };
    let problems = Pairs::open(&listeners(&swapped)).unwrap_err();
    assert!(problems[0].contains("no certificate") && problems[1].contains("no private key"), "{problems:?}");
}

#[test]
fn a_certificate_past_its_end_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "old.example", 2020);
    let mut config = Config::default();
    config.server.listen = listeners(&files);
    assert_eq!(warnings(&config), ["the certificate of CN=old.example expired at 2020-01-02T00:00:00.000Z"]);
    assert!(warnings(&Config::default()).is_empty());
}

#[test]
fn encrypted_means_every_address_that_others_reach() {
    let files = TlsFiles { certificate: "c".into(), key: "k".into() };
    let all = |listeners: &[(&str, bool)]| {
        let one = |(address, tls): &(&str, bool)| {
            let listener: Listener = address.parse().unwrap();
            Listener { tls: tls.then(|| files.clone()), ..listener }
        };
        encrypts(&Listeners::of(listeners.iter().map(one).collect()))
    };
    assert!(all(&[("0.0.0.0:1", true)]));
    assert!(all(&[("0.0.0.0:1", true), ("127.0.0.1:2", false)]));
    assert!(!all(&[("0.0.0.0:1", false), ("127.0.0.1:2", true)]));
    assert!(!all(&[("127.0.0.1:2", false)]), "nothing is encrypted");
}
