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
use roundtable_dialects::iso::iso;
use roundtable_dialects::session::{Ask, Credentials, Family, Identity, Proof, Refusal, Sign, Token};
use tokio::sync::mpsc;

use crate::auth::Identifier;
use crate::auth::failures::counted_address;
use crate::clock;
use crate::config;
use crate::runner::Workspaces;
use crate::telemetry::sparse::Sparse;
use crate::transport::Listener;
use detectors::{Act, Attack, Detectors, Found, Rule, Step};

pub mod detectors;

/// Where somebody is: its address and the listener it came to.
pub type Spot<'a> = (IpAddr, &'a Listener);

/// Characters of a stranger's account name that a log line shows.
const MOST_LOGGED: usize = 64;

/// A refusal in force: who is not served, where, why, and until when.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Standing {
    /// Whose: an address, or a network of IPv6.
    pub address: String,
    /// At which listener; everywhere without one.
    pub listener: Option<String>,
    /// For which account alone.
    pub account: Option<String>,
    /// Which rule it comes from.
    pub rule: String,
    /// Its end; without one it lasts as long as what it comes from.
    pub until: Option<Time>,
}

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
        IpAddr::V6(network) if !network.is_loopback() => format!("{network}/64"),
        address => address.to_string(),
    }
}

/// The address that stands for a source, as [`counted_address`] has it.
pub fn address_of(source: &str) -> Option<IpAddr> {
    source.strip_suffix("/64").unwrap_or(source).parse().ok().map(counted_address)
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

    /// Somebody who came was sent on by a foreign web page: that is no sign of its address.
    pub fn never_came(&self, (peer, _): Spot<'_>) {
        let mut detectors = self.detectors.lock().unwrap_or_else(PoisonError::into_inner);
        detectors.take_back(Attack::Ddos, &source_of(peer));
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

    /// For how many milliseconds more a spot is blocked, if it is: what could be a guess is not read there, and Open-A.G.I
    /// reads nothing at all.
    pub fn refuses(&self, spot: Spot<'_>) -> Option<u64> {
        u64::try_from(self.in_force(spot)?.0).ok().filter(|ms| *ms > 0)
    }

    /// The same for a request that is turned away for it; logged.
    pub fn turns_away(&self, spot: Spot<'_>) -> Option<u64> {
        static LINES: Sparse = Sparse::new();
        let ms = self.refuses(spot)?;
        if let Some(left_out) = LINES.turn() {
            let (peer, listener) = (spot.0, spot.1.address);
            tracing::info!(%peer, %listener, retry_after_ms = ms, left_out, "a blocked address is turned away");
        }
        Some(ms)
    }

    /// Checks tokens, keys and guests at once, as [`Identifier::try_identify_now`] does, and counts what is wrong. Where the
    /// spot is blocked, what is good opens all the same, but for Open-A.G.I (its notes §6), and what is not is told of the block.
    pub fn try_identify_now(
        &self,
        identity: &Identifier,
        credentials: &Credentials,
        spot: Spot<'_>,
    ) -> Option<Result<Identity, Refusal>> {
        let proof = &credentials.proof;
        let guest = matches!(proof, Proof::Guest(_));
        let block = if guest { None } else { self.refuses(spot) };
        if let (Some(ms), Proof::Token(Family::OpenAgi, _)) = (block, proof) {
            return Some(Err(refused(spot, proof, ms)));
        }
        let result = identity.try_identify_now(credentials, spot.0)?;
        note_refusal(&result, proof, spot);
        if guest || !result.as_ref().is_err_and(is_wrong) {
            return Some(result);
        }
        if let Some(ms) = block {
            return Some(Err(refused(spot, proof, ms)));
        }
        self.failed(spot);
        if token_of(proof).is_some_and(|token| identity.is_forged(token)) {
            self.note(Attack::InvalidSignature, spot, 0);
        }
        Some(result)
    }

    /// The same for any credentials. Passwords from a blocked spot are read at a pace ([`crate::auth::logins`]).
    pub async fn identify(
        &self,
        identity: &Identifier,
        credentials: Credentials,
        spot: Spot<'_>,
    ) -> Result<Identity, Refusal> {
        if let Some(result) = self.try_identify_now(identity, &credentials, spot) {
            return result;
        }
        let proof = credentials.proof.clone();
        let result = identity.identify(credentials, spot.0, self.refuses(spot)).await;
        note_refusal(&result, &proof, spot);
        match result {
            Err(Refusal::TooManyFailures(ms)) => return Err(refused(spot, &proof, ms)),
            Err(refusal) if is_wrong(&refusal) => self.failed(spot),
            _ => {}
        }
        result
    }

    /// The blocks in force: those of the log, and those that are not in it yet.
    pub fn blocks(&self) -> Vec<Standing> {
        let home = self.workspaces.get(self.workspaces.default_id()).map(|home| home.view());
        let in_log = home.iter().flat_map(|view| {
            let now = view.now();
            view.state.blocks().filter(move |block| block.until > now).map(|block| &block.notice)
        });
        let mut all: Vec<Standing> = in_log
            .map(|SecurityNoticed { source, place, rule, until, .. }| Standing {
                address: source.clone(),
                listener: place.clone(),
                account: None,
                rule: rule.clone(),
                until: *until,
            })
            .collect();
        for found in self.fresh.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let known = |known: &Standing| {
                known.address == found.source && known.listener.as_deref() == Some(&found.place)
            };
            if let Step::Intrusion(Some(until)) = found.step
                && !all.iter().any(known)
            {
                all.push(Standing {
                    address: found.source.clone(),
                    listener: Some(found.place.clone()),
                    account: None,
                    rule: found.attack.name().to_owned(),
                    until: Some(clock::shown(until)),
                });
            }
        }
        all
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
        let Some(found) = detectors.note(act, clock::steady(), clock::random_u64()) else { return };
        drop(detectors);
        log(&found);
        if matches!(found.step, Step::Intrusion(Some(_))) {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(found.clone());
        }
        // At the end nobody tells any more, and nobody is left to be told.
        let _ = self.found.send(found);
    }

    /// For how many milliseconds more the block in force at a spot lasts, and the rule it comes from.
    fn in_force(&self, (peer, listener): Spot<'_>) -> Option<(i64, String)> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.workspaces.get(self.workspaces.default_id())?.view();
        let state = &view.state;
        if fresh.is_empty() && state.blocks().len() == 0 {
            return None;
        }
        let (source, place) = (source_of(peer), listener.address.to_string());
        let found = fresh.iter().find(|found| found.source == source && found.place == place);
        if let Some(Found { step: Step::Intrusion(Some(until)), attack, .. }) = found {
            return Some((until.since(clock::steady()), attack.name().to_owned()));
        }
        let now = view.now();
        let block = state.blocked(&source, Some(&place), now)?;
        Some((block.until.since(now), block.notice.rule.clone()))
    }

    /// Whether something found is still to be told: the operator may have forgiven it meanwhile.
    fn holds(&self, found: &Found) -> bool {
        !matches!(found.step, Step::Intrusion(Some(_)))
            || self.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(found)
    }

    fn told(&self, told: &Found) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).retain(|found| found != told);
    }
}

/// What a wrong credential is told. An expired or revoked one was right once: its holder guesses nothing.
fn is_wrong(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Invalid | Refusal::UnknownDomain)
}

/// The refusal of somebody who may try again after so many milliseconds; logged.
fn refused((peer, listener): Spot<'_>, proof: &Proof, ms: u64) -> Refusal {
    static LINES: Sparse = Sparse::new();
    if let Some(left_out) = LINES.turn() {
        let (listener, shown) = (listener.address, kind_of(proof));
        let account = account_of(proof).map(|account| account.chars().take(MOST_LOGGED).collect::<String>());
        tracing::info!(
            %peer, %listener, shown, account, retry_after_ms = ms, left_out,
            "a login is not read"
        );
    }
    Refusal::TooManyFailures(ms)
}

fn log(found: &Found) {
    let Found { source, place, count, window_s, .. } = found;
    let rule = found.attack.name();
    match found.step {
        Step::Intrusion(Some(until)) => tracing::warn!(
            source,
            listener = place,
            rule,
            count,
            window_s,
            until = iso(clock::shown(until)),
            "an address is blocked"
        ),
        Step::Intrusion(None) => tracing::warn!(source, listener = place, rule, count, window_s, "an attack"),
        Step::Suspicious => tracing::info!(source, listener = place, rule, count, window_s, "suspicious"),
    }
}

/// What somebody shows, in a word.
const fn kind_of(proof: &Proof) -> &'static str {
    match proof {
        Proof::Token(..) => "token",
        Proof::ApiKey(_) => "key",
        Proof::Bearer(..) => "token or key",
        Proof::Password { .. } => "password",
        Proof::ChannelKey { .. } => "channel key",
        Proof::AgentSecret { .. } => "agent's secret",
        Proof::Guest(_) => "nothing",
    }
}

fn account_of(proof: &Proof) -> Option<&str> {
    match proof {
        Proof::Password { username, .. } => Some(username),
        Proof::AgentSecret { agent, .. } => Some(agent),
        Proof::ChannelKey { key_id, .. } => Some(key_id),
        Proof::Token(..) | Proof::ApiKey(_) | Proof::Bearer(..) | Proof::Guest(_) => None,
    }
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
        if !watch.holds(&found) {
            continue;
        }
        let workspaces = &watch.workspaces;
        if let Some(handle) = workspaces.get(workspaces.default_id()) {
            let (source, rule) = (&found.source, found.attack.name());
            let ask = Ask::new(Token(0), Command::Notice(notice_of(&found)));
            if let Err(error) = handle.ask(&Principal::System, ask).await {
                tracing::warn!(source, rule, %error, "a finding could not be noted");
            }
            // The operator forgave it on its way into the log.
            if !watch.holds(&found) {
                let ask = Ask::new(Token(0), Command::LiftBlocks(source.clone()));
                if let Err(error) = handle.ask(&Principal::System, ask).await {
                    tracing::warn!(source, rule, %error, "a block could not be lifted");
                }
            }
        }
        watch.told(&found);
    }
}

/// Whom the server does not let in, in its own log; never what was shown.
fn note_refusal(result: &Result<Identity, Refusal>, proof: &Proof, (peer, listener): Spot<'_>) {
    let Err(refusal) = result else { return };
    let shown = match proof {
        Proof::Token(..) => "a token",
        Proof::Bearer(..) => "a token or key",
        Proof::ApiKey(_) | Proof::ChannelKey { .. } => "a key",
        Proof::Password { .. } => "a password",
        Proof::AgentSecret { .. } => "an agent's secret",
        Proof::Guest(_) => "nothing",
    };
    tracing::debug!(%peer, listener = %listener.address, ?refusal, shown, "somebody was not let in");
}

fn notice_of(found: &Found) -> SecurityNoticed {
    // Found by a clock that is not set; told by the one that people have.
    let until = if let Step::Intrusion(until) = found.step { until.map(clock::shown) } else { None };
    let suspicious = found.step == Step::Suspicious;
    let mut evidence = found.evidence(clock::shown(found.first));
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
            let peer = peer.parse().unwrap();
            assert_eq!(source_of(peer), source);
            assert_eq!(super::address_of(source), Some(super::counted_address(peer)));
        }
    }
}
