//! The rules: how many of what one source may do in which window. Pure, and bounded in memory whatever attackers send.

use std::collections::{HashMap, VecDeque};

use roundtable_core::ids::AlertId;
use roundtable_core::time::Time;
use serde_json::{Value, json};

/// Sources that are remembered per process: some 20 MiB at the most with the usual thresholds.
const MOST_TRACKS: usize = 16_384;
/// Places at which one source is known to be blocked; more listeners than these have nobody.
const MOST_PLACES: usize = 16;

/// What is watched for (Open-A.G.I API, Security Events).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Attack {
    /// Credentials that were refused as wrong.
    BruteForce,
    /// Connections.
    Ddos,
    /// Messages that were refused because they came too fast.
    Flooding,
    /// The same signed thing, shown again.
    Replay,
    /// Tokens whose signature is not ours.
    InvalidSignature,
    /// Frames that are none.
    Malformed,
    /// Payloads that claim to come from somebody else.
    Spoofing,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BruteForce,
        Self::Ddos,
        Self::Flooding,
        Self::Replay,
        Self::InvalidSignature,
        Self::Malformed,
        Self::Spoofing,
    ];

    /// Its name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BruteForce => "brute_force",
            Self::Ddos => "ddos",
            Self::Flooding => "flooding",
            Self::Replay => "replay",
            Self::InvalidSignature => "invalid_signature",
            Self::Malformed => "malformed_frames",
            Self::Spoofing => "spoofing",
        }
    }

    /// What is counted, for a sentence.
    pub const fn counted(self) -> &'static str {
        match self {
            Self::BruteForce => "failed logins",
            Self::Ddos => "connections",
            Self::Flooding => "messages beyond the allowed rate",
            Self::Replay => "repetitions of one signed message",
            Self::InvalidSignature => "tokens with a wrong signature",
            Self::Malformed => "malformed frames",
            Self::Spoofing => "payloads in somebody else's name",
        }
    }
}

/// When something is suspicious, when it is an intrusion, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// How many in the window are still usual; one more is an intrusion. `None`: never.
    pub most: Option<u32>,
    /// From so many on it is suspicious; `None`: never.
    pub suspicious: Option<u32>,
    /// The window in milliseconds.
    pub window_ms: i64,
    /// How long a source is blocked after an intrusion, in milliseconds; `None`: it is not.
    pub block_ms: Option<i64>,
}

/// What one source did to one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Act<'a> {
    /// What it is a sign of.
    pub attack: Attack,
    /// Who: an address, or whatever else is counted as one.
    pub source: &'a str,
    /// To which listener.
    pub place: &'a str,
    /// What is told apart within the attack: the signed message of a replay.
    pub about: u64,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Not far enough to do anything.
    Suspicious,
    /// Over the threshold; blocked until then, if the rule blocks.
    Intrusion(Option<Time>),
}

/// A threshold was crossed.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// What.
    pub attack: Attack,
    /// Who.
    pub source: String,
    /// Where.
    pub place: String,
    /// How far.
    pub step: Step,
    /// The steps of one attack share it.
    pub alert: AlertId,
    /// How many were counted in the window.
    pub count: u32,
    /// How many are still usual, or, where nothing is an intrusion, how many are suspicious.
    pub threshold: u32,
    /// The window in seconds.
    pub window_s: u32,
    /// When the first of them was.
    pub first: Time,
    /// 1 when all came at once, 0.5 when they were spread over the whole window.
    pub confidence: f64,
}

impl Found {
    /// The evidence, as events show it. `first_at`: when the first of them was, by the wall clock.
    pub fn evidence(&self, first_at: Time) -> Value {
        json!({
            "count": self.count,
            "window_seconds": self.window_s,
            "threshold": self.threshold,
            "first_at": first_at.0,
            "listener": self.place,
            "confidence": self.confidence,
        })
    }
}

type Key = (Attack, String, u64);

/// What one source did lately.
#[derive(Debug, Default)]
struct Track {
    times: VecDeque<Time>,
    alert: Option<AlertId>,
    suspected: bool,
    /// An intrusion was told that no block followed.
    told: bool,
    /// Where it is blocked until when.
    blocked: Vec<(String, Time)>,
}

/// Counts by source in sliding windows.
#[derive(Debug, Default)]
pub struct Detectors {
    rules: [Rule; Attack::ALL.len()],
    tracks: HashMap<Key, Track>,
    by_age: VecDeque<Key>,
}

impl Detectors {
    /// By these rules, those of an attack that is not named being off.
    pub fn new(rules: impl IntoIterator<Item = (Attack, Rule)>) -> Self {
        let mut detectors = Self::default();
        for (attack, rule) in rules {
            if let Some(place) = detectors.rules.get_mut(attack as usize) {
                *place = rule;
            }
        }
        detectors
    }

    /// Counts an act. Says so if it crossed a threshold, once for as long as the window is never empty, or once per block.
    /// What a blocked source does where it is blocked is not counted.
    pub fn note(&mut self, act: Act<'_>, now: Time, random: u64) -> Option<Found> {
        let rule = self.rules.get(act.attack as usize).copied()?;
        let enough = rule.most.map(|most| most.saturating_add(1)).or(rule.suspicious)?;
        let track = self.track((act.attack, act.source.to_owned(), act.about));
        track.forget(now, rule.window_ms);
        if track.blocked.iter().any(|(place, _)| place == act.place) {
            return None;
        }
        track.times.push_back(now);
        if track.times.len() > enough as usize {
            track.times.pop_front();
        }
        let count = u32::try_from(track.times.len()).unwrap_or(u32::MAX);
        let step = if rule.most.is_some_and(|most| count > most) {
            track.intrusion(act.place, rule.block_ms.map(|ms| now.plus(ms)))?
        } else if rule.suspicious.is_some_and(|from| count >= from) && !track.suspected {
            track.suspected = true;
            Step::Suspicious
        } else {
            return None;
        };
        let first = track.times.front().copied().unwrap_or(now);
        let spread = (now.since(first).max(0) as f64 / rule.window_ms.max(1) as f64).min(1.0);
        let alert = track.alert.get_or_insert_with(|| AlertId::fresh(now, random)).clone();
        Some(Found {
            attack: act.attack,
            source: act.source.to_owned(),
            place: act.place.to_owned(),
            step,
            alert,
            count,
            threshold: rule.most.unwrap_or(enough),
            window_s: u32::try_from(rule.window_ms / 1000).unwrap_or(u32::MAX),
            first,
            confidence: 1.0 - spread / 2.0,
        })
    }

    /// The newest act of a source was none.
    pub fn take_back(&mut self, attack: Attack, source: &str) {
        if let Some(track) = self.tracks.get_mut(&(attack, source.to_owned(), 0)) {
            track.times.pop_back();
        }
    }

    /// Forgets what a source did: the operator has forgiven it.
    pub fn forgive(&mut self, source: &str) {
        self.tracks.retain(|(_, known, _), _| known != source);
        self.by_age.retain(|(_, known, _)| known != source);
    }

    fn track(&mut self, key: Key) -> &mut Track {
        if !self.tracks.contains_key(&key) {
            if self.tracks.len() >= MOST_TRACKS
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.tracks.remove(&oldest);
            }
            self.by_age.push_back(key.clone());
        }
        self.tracks.entry(key).or_default()
    }
}

impl Track {
    /// What left the window does not count; where nothing is left, a new attack begins with the next act.
    fn forget(&mut self, now: Time, window_ms: i64) {
        while self.times.front().is_some_and(|at| now.since(*at) >= window_ms) {
            self.times.pop_front();
        }
        self.blocked.retain(|(_, until)| *until > now);
        if self.times.is_empty() && self.blocked.is_empty() {
            (self.alert, self.suspected, self.told) = (None, false, false);
        }
    }

    fn intrusion(&mut self, place: &str, until: Option<Time>) -> Option<Step> {
        match until {
            Some(until) if self.blocked.len() < MOST_PLACES => self.blocked.push((place.to_owned(), until)),
            _ if std::mem::replace(&mut self.told, true) => return None,
            _ => {}
        }
        Some(Step::Intrusion(until))
    }
}

#[cfg(test)]
mod tests;
