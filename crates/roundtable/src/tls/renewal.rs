//! The job that looks after certificates: it takes new files, and tells when a life has ended.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use roundtable_core::alerts::{Finding, SecurityNoticed};
use roundtable_core::command::Command;
use roundtable_core::ids::AlertId;
use roundtable_core::json::Json;
use roundtable_core::time::Time;
use roundtable_dialects::iso::iso;
use tokio::signal::unix::{SignalKind, signal};

use super::{Certificate, Pairs, expiry};
use crate::clock;

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(2);

/// What makes a file another one: when it was written, how long it is, and which one it is.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), std::os::unix::fs::MetadataExt::ino(&data)))
}

/// Looks after the pairs until it is aborted. `tell` is given what a security rule would say.
///
/// Files are read again when they change, and at SIGHUP. Broken ones are reported, and what was in force stays.
pub async fn run(pairs: Arc<Pairs>, mut dir: PathBuf, node: String, tell: impl Fn(Command)) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "certificates are not renewed"),
    };
    let mut renewal = Renewal { seen: stamps(&pairs), pairs, told: HashSet::new() };
    let mut interval = tokio::time::interval(EVERY);
    loop {
        for command in renewal.expired(clock::now(), &node) {
            tell(command);
        }
        let asked = tokio::select! {
            _ = interval.tick() => false,
            _ = hangup.recv() => true,
        };
        // Files may lie on a slow disk: not on a thread that others wait for.
        let looked = tokio::task::spawn_blocking(move || {
            renewal.look(asked, &dir);
            (renewal, dir)
        });
        match looked.await {
            Ok(back) => (renewal, dir) = back,
            Err(error) => return tracing::error!(%error, "certificates are renewed no more"),
        }
    }
}

fn stamps(pairs: &Pairs) -> Vec<[Stamp; 2]> {
    pairs.0.iter().map(|pair| [stamp(&pair.files.certificate), stamp(&pair.files.key)]).collect()
}

struct Renewal {
    pairs: Arc<Pairs>,
    seen: Vec<[Stamp; 2]>,
    told: HashSet<String>,
}

impl Renewal {
    /// Reads files that have changed; all of them if somebody asked.
    fn look(&mut self, asked: bool, dir: &Path) {
        let now = stamps(&self.pairs);
        let mut renewed = false;
        for ((pair, before), after) in self.pairs.0.iter().zip(&self.seen).zip(&now) {
            if !asked && before == after {
                continue;
            }
            match pair.reload() {
                Ok(()) => {
                    renewed = true;
                    tracing::info!(?pair, "a certificate was read again");
                }
                Err(problems) => {
                    for problem in problems {
                        tracing::error!(%problem, "a new certificate cannot be used; the old one stays");
                    }
                }
            }
        }
        self.seen = now;
        if renewed && let Err(error) = self.pairs.note(dir) {
            tracing::error!(%error, "the command line will not know this server's certificate");
        }
    }

    /// The events of certificates that have come to their end; each is told once.
    fn expired(&mut self, now: Time, node: &str) -> Vec<Command> {
        let mut certificates = self.pairs.certificates();
        certificates.retain(|one| one.expired(now) && self.told.insert(one.fingerprint.clone()));
        certificates.iter().map(|certificate| notice(certificate, node, now)).collect()
    }
}

fn notice(certificate: &Certificate, node: &str, now: Time) -> Command {
    let message = expiry(certificate);
    tracing::warn!("{message}");
    let evidence = serde_json::json!({
        "subject": certificate.subject,
        "expired_at": iso(certificate.not_after),
        "fingerprint": certificate.fingerprint,
    });
    Command::Notice(SecurityNoticed {
        alert: AlertId::fresh(now, clock::random_u64()),
        finding: Finding::Expired,
        rule: "certificate_expired".into(),
        source: node.into(),
        severity: "high".into(),
        message,
        evidence: Json::from(&evidence),
        until: None,
        place: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Authority, listeners};
    use super::{Command, HashSet, Pairs, Renewal, Time, stamps};
    use std::sync::Arc;

    #[test]
    fn an_end_is_told_once_with_its_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let files = Authority::new().issue(dir.path(), "old.example", 2020);
        let pairs = Arc::new(Pairs::open(&listeners(&files)).unwrap());
        let end = pairs.certificates().first().unwrap().not_after;
        let mut renewal = Renewal { seen: stamps(&pairs), pairs, told: HashSet::new() };
        assert!(renewal.expired(Time(end.0 - 1), "n1").is_empty(), "not before it is over");
        let told = renewal.expired(Time(end.0 + 1), "n1");
        let [Command::Notice(notice)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((notice.rule.as_str(), notice.source.as_str()), ("certificate_expired", "n1"));
        let evidence: serde_json::Value = notice.evidence.read().unwrap();
        assert_eq!(evidence["subject"], "CN=old.example");
        assert_eq!(evidence["expired_at"], "2020-01-02T00:00:00.000Z");
        assert_eq!(evidence["fingerprint"].as_str().unwrap().len(), 64);
        assert!(renewal.expired(Time(end.0 + 9_999), "n1").is_empty(), "and not again");
    }

    #[test]
    fn changed_files_are_taken_and_broken_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.issue(dir.path(), "first.example", 2999);
        let pairs = Arc::new(Pairs::open(&listeners(&files)).unwrap());
        let mut renewal = Renewal { seen: stamps(&pairs), pairs: Arc::clone(&pairs), told: HashSet::new() };
        let subject = || pairs.certificates().first().unwrap().subject.clone();
        renewal.look(false, dir.path());
        assert!(!dir.path().join(super::super::FILE).exists(), "nothing has changed");
        std::fs::write(&files.key, "no key").unwrap();
        renewal.look(false, dir.path());
        assert_eq!(subject(), "CN=first.example");
        authority.issue(dir.path(), "second.example", 2999);
        renewal.look(false, dir.path());
        assert_eq!(subject(), "CN=second.example");
        let noted = std::fs::read_to_string(dir.path().join(super::super::FILE)).unwrap();
        assert!(noted.contains("CN=second.example"), "{noted}");
    }
}
