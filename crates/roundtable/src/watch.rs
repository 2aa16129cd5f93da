//! The watch: signs of attacks are counted by address, told through the log, and answered with blocks that are kept.
//!
//! Nothing here is asked for a message that goes its way: only connections, refusals and failures are counted. What the
//! rules are is said in [`detectors`]; a block is decided by the core, so it is in the log and outlives a restart.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use roundtable_core::alerts::{Finding, SecurityNoticed};
use roundtable_core::command::Command;
use roundtable_core::ids::Principal;
use roundtable_core::json::Json;
use roundtable_core::time::Time;
use roundtable_dialects::session::{Ask, Credentials, Identity, Proof, Refusal, Sign, Token};
use tokio::sync::mpsc;

use crate::auth::failures::counted_address;
use crate::auth::{Directory, Identifier};
use crate::clock;
use crate::config;
use crate::runner::Workspaces;
use crate::transport::Listener;
use detectors::{Act, Attack, Detectors, Found, Rule, Step};

pub mod detectors;

/// Where somebody is: its address and the listener it came to.
pub type Spot<'a> = (IpAddr, &'a Listener);

/// What was found and is still to be told.
pub type News = mpsc::UnboundedReceiver<Found>;

/// Counts, and refuses those who are blocked. One for all shards.
pub struct Watch {
    detectors: Mutex<Detectors>,
    workspaces: Arc<Workspaces>,
    found: mpsc::UnboundedSender<Found>,
    /// Blocks that were found and are not in the log yet, so that nobody slips in while the disk is synced.
    fresh: Mutex<Vec<Found>>,
    failed: AtomicU64,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// A source as it is counted, shown and blocked: an address, of IPv6 the network of its customer.
pub fn source_of(peer: IpAddr) -> String {
    match counted_address(peer) {
        IpAddr::V6(_) if peer.is_loopback() => peer.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
        v4 @ IpAddr::V4(_) => v4.to_string(),
    }
}

fn rules(settings: &config::Security) -> [(Attack, Rule); Attack::ALL.len()] {
    let ms = |span: config::Span| i64::try_from(span.ms()).unwrap_or(i64::MAX);
    let rule = |most: config::Rate, window: config::Span| Rule {
        most: most.most(),
        window_ms: ms(window),
        ..Rule::default()
    };
    let s = settings;
    let block_ms = Some(ms(s.login_block));
    let logins = Rule { suspicious: s.suspicious_logins.most(), ..rule(s.failed_logins, s.login_window) };
    let malformed = Rule {
        most: None,
        suspicious: s.malformed_frames.most(),
        ..rule(s.malformed_frames, s.malformed_window)
    };
    let spoofing = Rule { most: s.spoofing.then_some(0), window_ms: ms(s.login_window), ..Rule::default() };
    [
        (Attack::BruteForce, Rule { block_ms, ..logins }),
        (
            Attack::Ddos,
            Rule { block_ms: Some(ms(s.connection_block)), ..rule(s.connections, s.connection_window) },
        ),
        (Attack::Flooding, rule(s.refused_messages, s.refused_window)),
        (Attack::Replay, Rule { block_ms, ..rule(s.replays, s.replay_window) }),
        (Attack::InvalidSignature, Rule { block_ms, ..rule(s.forged_tokens, s.forged_window) }),
        (Attack::Malformed, malformed),
        (Attack::Spoofing, spoofing),
    ]
}

impl Watch {
    /// By these settings. What is found has to be told with [`tell`].
    pub fn new(settings: &config::Security, workspaces: Arc<Workspaces>) -> (Arc<Self>, News) {
        let (found, news) = mpsc::unbounded_channel();
        let detectors = Mutex::new(Detectors::new(rules(settings)));
        (
            Arc::new(Self {
                detectors,
                workspaces,
                found,
                fresh: Mutex::default(),
                failed: AtomicU64::new(0),
            }),
            news,
        )
    }

    /// Somebody connects. Says whether it may. Loopback addresses may as often as they like.
    pub fn comes(&self, spot: Spot<'_>) -> bool {
        if spot.0.to_canonical().is_loopback() {
            return true;
        }
        if self.in_force(spot).is_some_and(|(_, rule)| rule == Attack::Ddos.name()) {
            return false;
        }
        self.note(Attack::Ddos, spot, 0);
        true
    }

    /// A dialect saw a sign.
    pub fn saw(&self, sign: Sign, spot: Spot<'_>) {
        let attack = match sign {
            Sign::Malformed => Attack::Malformed,
            Sign::TooFast => Attack::Flooding,
            Sign::Impersonation => Attack::Spoofing,
        };
        self.note(attack, spot, 0);
    }

    /// Somebody showed something signed that was shown before: a challenge that is answered already, a message that was
    /// delivered. `message` is what was signed.
    pub fn replayed(&self, spot: Spot<'_>, message: &[u8]) {
        self.note(Attack::Replay, spot, fingerprint(message));
    }

    /// A credential was refused as wrong.
    pub fn failed(&self, spot: Spot<'_>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(Attack::BruteForce, spot, 0);
    }

    /// How many credentials were refused as wrong since the start.
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// For how many milliseconds more nobody from there is let in, whatever it shows.
    pub fn refuses(&self, spot: Spot<'_>) -> Option<u64> {
        let (until, _) = self.in_force(spot)?;
        u64::try_from(until.since(clock::now())).ok().filter(|ms| *ms > 0)
    }

    /// Checks tokens, keys and guests at once, as [`Identifier::try_identify_now`] does, counts what is wrong, and refuses
    /// whoever is blocked unread. Guests show nothing, so there is nothing to refuse.
    pub fn try_identify_now(
        &self,
        identity: &Identifier,
        credentials: &Credentials,
        spot: Spot<'_>,
    ) -> Option<Result<Identity, Refusal>> {
        let guest = matches!(credentials.proof, Proof::Guest(_));
        if !guest && let Some(ms) = self.refuses(spot) {
            return Some(Err(Refusal::TooManyFailures(ms)));
        }
        let result = identity.try_identify_now(credentials, spot.0)?;
        if !guest && result.as_ref().is_err_and(is_wrong) {
            self.failed(spot);
            if token_of(&credentials.proof).is_some_and(|token| identity.is_forged(token)) {
                self.note(Attack::InvalidSignature, spot, 0);
            }
        }
        Some(result)
    }

    /// The same for any credentials.
    pub async fn identify(
        &self,
        identity: &Identifier,
        credentials: Credentials,
        spot: Spot<'_>,
    ) -> Result<Identity, Refusal> {
        if let Some(result) = self.try_identify_now(identity, &credentials, spot) {
            return result;
        }
        let result = identity.identify(credentials, spot.0).await;
        if result.as_ref().is_err_and(is_wrong) {
            self.failed(spot);
        }
        result
    }

    /// Forgets what a source did, for the operator.
    pub fn forgive(&self, source: &str) {
        self.detectors.lock().unwrap_or_else(PoisonError::into_inner).forgive(source);
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).retain(|found| found.source != source);
    }

    fn note(&self, attack: Attack, (peer, listener): Spot<'_>, about: u64) {
        let (source, place) = (source_of(peer), listener.address.to_string());
        let act = Act { attack, source: &source, place: &place, about };
        let mut detectors = self.detectors.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = detectors.note(act, clock::now(), clock::random_u64()) else { return };
        drop(detectors);
        if matches!(found.step, Step::Intrusion(Some(_))) {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(found.clone());
        }
        // At the end nobody tells any more, and nobody is left to be told.
        let _ = self.found.send(found);
    }

    /// The end of the block in force at a spot, and the rule it comes from.
    fn in_force(&self, (peer, listener): Spot<'_>) -> Option<(Time, String)> {
        let now = clock::now();
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.workspaces.state(self.workspaces.default_id())?;
        if fresh.is_empty() && state.blocks().len() == 0 {
            return None;
        }
        let (source, place) = (source_of(peer), listener.address.to_string());
        let found = fresh.iter().find(|found| found.source == source && found.place == place);
        if let Some(Found { step: Step::Intrusion(Some(until)), attack, .. }) = found {
            return Some((*until, attack.name().to_owned()));
        }
        let block = state.blocked(&source, Some(&place), now)?;
        Some((block.until, block.notice.rule.clone()))
    }

    fn told(&self, told: &Found) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).retain(|found| found != told);
    }
}

/// What a wrong credential is told. An expired or revoked one was right once: its holder guesses nothing.
fn is_wrong(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Invalid | Refusal::UnknownDomain)
}

fn token_of(proof: &Proof) -> Option<&str> {
    match proof {
        Proof::Token(_, token) | Proof::Bearer(_, token) => Some(token),
        _ => None,
    }
}

fn fingerprint(message: &[u8]) -> u64 {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(message).into();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Tells what is found, in order, in the workspace of the dialects that watch the whole server; ends with the watch.
pub async fn tell(watch: Arc<Watch>, mut news: News) {
    while let Some(found) = news.recv().await {
        let workspaces = &watch.workspaces;
        if let Some(handle) = workspaces.get(workspaces.default_id()) {
            let ask = Ask::new(Token(0), Command::Notice(notice_of(&found)));
            if let Err(error) = handle.ask(&Principal::System, ask).await {
                tracing::warn!(source = found.source, rule = found.attack.name(), %error, "a finding could not be noted");
            }
        }
        watch.told(&found);
    }
}

fn notice_of(found: &Found) -> SecurityNoticed {
    let until = if let Step::Intrusion(until) = found.step { until } else { None };
    let suspicious = found.step == Step::Suspicious;
    let mut evidence = found.evidence();
    if let (Some(_), Some(evidence)) = (until, evidence.as_object_mut()) {
        // Whoever comes too often may come again later; whoever guesses is shut out.
        let action = if found.attack == Attack::Ddos { "rate_limited" } else { "banned" };
        evidence.insert("action".into(), action.into());
    }
    let severity = match found.attack {
        _ if suspicious => "medium",
        Attack::Flooding | Attack::Spoofing | Attack::Malformed => "medium",
        Attack::BruteForce | Attack::Ddos | Attack::Replay | Attack::InvalidSignature => "high",
    };
    SecurityNoticed {
        alert: found.alert.clone(),
        finding: if suspicious { Finding::Suspicious } else { Finding::Intrusion },
        rule: found.attack.name().into(),
        source: found.source.clone(),
        place: Some(found.place.clone()),
        severity: severity.into(),
        message: format!("{} {} within {} s", found.count, found.attack.counted(), found.window_s),
        evidence: Json::from(&evidence),
        until,
    }
}

#[cfg(test)]
mod tests {
    use super::source_of;

    #[test]
    fn an_address_counts_as_its_customer() {
        for (peer, source) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("::1", "::1"),
        ] {
            assert_eq!(source_of(peer.parse().unwrap()), source);
        }
    }
}
