//! What settings are made of: times, sizes, rates, percentages and lists, each with its own checks.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use roundtable_core::ids::AgentId;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::filter::LevelFilter;

/// Shortest time that can be set, in milliseconds: below it timers cost more than they tell.
pub const SHORTEST_MS: u64 = 200;
/// Longest time that can be set, in milliseconds: ten years.
pub const LONGEST_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// A number and its unit, `250ms`, `1MiB`; without a unit the factor is 1.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim();
    let factor = if unit.is_empty() { 1 } else { units.iter().find(|(name, _)| *name == unit)?.1 };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The largest unit that leaves no remainder.
fn unscaled(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    fits.map_or_else(|| value.to_string(), |(unit, factor)| format!("{}{unit}", value / factor))
}

const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Takes a text or a whole number.
struct TextOrNumber<F>(F, &'static str);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for TextOrNumber<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.trim()).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        (self.0)(&number.to_string()).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        (self.0)(&number.to_string()).map_err(E::custom)
    }
}

/// A span of time in milliseconds, from 200 ms to ten years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(u64);

impl Span {
    /// A span of so many milliseconds, brought into range.
    pub const fn of_ms(ms: u64) -> Self {
        Self(if ms < SHORTEST_MS {
            SHORTEST_MS
        } else if ms > LONGEST_MS {
            LONGEST_MS
        } else {
            ms
        })
    }

    /// Milliseconds.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up.
    pub const fn seconds(self) -> u32 {
        self.0.div_ceil(1000) as u32
    }

    /// As a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `200ms`, `5s`, `15m`, `24h`, `7d` or a number of milliseconds.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_from(text, Self(SHORTEST_MS))
    }

    /// The same where it must be longer.
    pub fn parse_from(text: &str, least: Self) -> Result<Self, String> {
        const FORM: &str = "must be a time such as 200ms, 5s, 15m, 24h or 7d";
        let ms = scaled(text, TIME_UNITS).ok_or_else(|| FORM.to_owned())?;
        if (least.0..=LONGEST_MS).contains(&ms) {
            return Ok(Self(ms));
        }
        Err(format!("must be at least {least} and at most 3650d"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&unscaled(self.0, TIME_UNITS))
    }
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    fn parse(text: &str) -> Result<Self, String> {
        match scaled(text, SIZE_UNITS) {
            Some(bytes) if (1..=1 << 40).contains(&bytes) => Ok(Self(bytes)),
            _ => Err("must be a size such as 4096, 16KiB or 1MiB".into()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&unscaled(self.0, SIZE_UNITS))
    }
}

/// How many in a window that the key names, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate(Option<u32>);

impl Rate {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// So many.
    pub const fn of(most: u32) -> Self {
        Self(Some(most))
    }

    /// How many; `None` when it is off.
    pub const fn most(self) -> Option<u32> {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        match text.parse() {
            Ok(most) if most > 0 => Ok(Self(Some(most))),
            _ => Err("must be a whole number from 1 on, or off".into()),
        }
    }
}

/// A whole number from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(u32);

impl Count {
    /// So many.
    pub const fn of(count: u32) -> Self {
        Self(count)
    }

    /// How many.
    pub const fn get(self) -> u32 {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count) if count > 0 => Ok(Self(count)),
            _ => Err("must be a whole number from 1 on".into()),
        }
    }
}

macro_rules! text_or_number {
    ($($ty:ident: $expected:literal),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber($ty::parse, $expected))
            }
        }
    )*};
}

text_or_number! {
    Span: "a time such as 200ms, 5s, 15m, 24h or 7d",
    Size: "a size such as 4096, 16KiB or 1MiB",
    Rate: "a whole number from 1 on, or off",
    Count: "a whole number from 1 on",
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(most) => serializer.serialize_u32(most),
            None => serializer.serialize_str("off"),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// A percentage, 0 to 100.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize)]
#[serde(transparent)]
pub struct Percent(f64);

impl Percent {
    /// So many percent.
    pub const fn of(percent: f64) -> Self {
        Self(percent)
    }

    /// Percent.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("must be a number from 0 to 100");
        let percent = match toml::Value::deserialize(deserializer)? {
            toml::Value::Float(number) => number,
            toml::Value::Integer(number) => f64::from(i32::try_from(number).map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        if (0.0..=100.0).contains(&percent) { Ok(Self(percent)) } else { Err(wrong()) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Parts of the server whose lines can be asked for by name.
const PARTS: [&str; 12] = [
    "admin",
    "auth",
    "config",
    "jobs",
    "log",
    "probes",
    "runner",
    "server",
    "telemetry",
    "tls",
    "transport",
    "watch",
];
/// Others that write lines.
const BELOW: [&str; 8] = [
    "roundtable",
    "roundtable_core",
    "roundtable_dialects",
    "hyper",
    "hyper_util",
    "axum",
    "tokio",
    "rustls",
];

/// What is logged: levels of the whole and of its parts, `info,log=debug`, or a filter of `tracing`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct LogLevel(String);

impl LogLevel {
    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as a filter of `tracing`: a part is a path there.
    pub fn filter(&self) -> Result<tracing_subscriber::EnvFilter, String> {
        let directive = |word: &str| match word.trim().split_once('=') {
            Some((part, level)) if PARTS.contains(&part) => format!("roundtable::{part}={level}"),
            _ => word.trim().to_owned(),
        };
        let text = if self.0.contains('{') {
            self.0.clone()
        } else {
            self.0.split(',').map(directive).collect::<Vec<_>>().join(",")
        };
        tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".into())
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A filter takes a bare word for the name of a part whose every line is wanted: a misspelt level would be silence.
        let level = |word: &str| word.contains(['=', '[']) || word.trim().parse::<LevelFilter>().is_ok();
        let words = text.contains('{') || text.split(',').all(level);
        let parts = || text.split(',').filter_map(|word| Some(word.split_once('=')?.0.trim()));
        let unknown = |part: &&str| {
            !part.contains([':', '[', '{', '"']) && !PARTS.contains(part) && !BELOW.contains(part)
        };
        if let Some(part) = parts().find(unknown).filter(|_| !text.contains('{')) {
            let known = PARTS.join(", ");
            return Err(D::Error::custom(format!("there is no part `{part}`; parts are {known}")));
        }
        let level = Self(text);
        match level.filter() {
            Ok(_) if words && !level.0.is_empty() => Ok(level),
            _ => Err(D::Error::custom(
                "must be error, warn, info, debug, trace or a filter such as info,log=debug",
            )),
        }
    }
}

/// The name of a server process, or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// The name, if one was given.
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() {
            roundtable_core::ids::NodeId::new(&text).map_err(D::Error::custom)?;
        }
        Ok(Self(text))
    }
}

/// The id of an agent, or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct AgentName(String);

impl AgentName {
    /// The agent, if one was given.
    pub fn get(&self) -> Option<AgentId> {
        AgentId::new(&self.0).ok()
    }
}

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() {
            AgentId::new(&text).map_err(D::Error::custom)?;
        }
        Ok(Self(text))
    }
}

/// Origins of web pages: each `scheme://host[:port]`, or `*` for all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether a page of this origin is listed. Scheme and host compare without regard to case.
    pub fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
    }

    /// The list.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let origins = TextList::deserialize(deserializer)?.0;
        let wrong = |origin: &&String| {
            let host = origin.split_once("://").map(|(_, host)| host);
            let plain = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', ' ', '@']);
            *origin != "*" && !host.is_some_and(plain)
        };
        let wrong: Vec<String> =
            origins.iter().filter(wrong).map(|origin| format!("`{origin}` is no origin")).collect();
        if wrong.is_empty() {
            return Ok(Self(origins));
        }
        let wrong = wrong.join(", ");
        Err(D::Error::custom(format!("{wrong}; one looks like https://example.org or http://localhost:8000")))
    }
}

/// Addresses and networks, each `ADDRESS` or `ADDRESS/BITS`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// These.
    pub fn of(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is in one of them; an IPv4 address in IPv6 is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: String| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("`{text}` is no address and no network"))
        };
        let (mut networks, mut wrong) = (Vec::new(), Vec::new());
        for network in TextList::deserialize(deserializer)?.0.into_iter().map(read) {
            match network {
                Ok(network) => networks.push(network),
                Err(what) => wrong.push(what),
            }
        }
        if wrong.is_empty() {
            return Ok(Self(networks));
        }
        let wrong = wrong.join(", ");
        Err(D::Error::custom(format!("{wrong}; they look like 127.0.0.1, 10.0.0.0/8 or fd00::/8")))
    }
}

/// A list of texts: a TOML array, or one text with commas.
pub(crate) struct TextList(pub Vec<String>);

impl<'de> Deserialize<'de> for TextList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "must be a list of texts")]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(text) if text.trim_start().starts_with('[') => {
                return Err(D::Error::custom("must be a list of texts"));
            }
            Form::One(text) => {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            Form::Many(texts) => texts,
        }))
    }
}
