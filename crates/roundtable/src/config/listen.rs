//! Where the server listens and what is meant by a bare `/ws` there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a bare `/ws` means on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareWs {
    /// Hive.
    Hive,
    /// MegaBot.
    #[serde(rename = "megabot")]
    MegaBot,
    /// MegaBot if the request carries a credential or MegaBot's query values, else Hive.
    #[default]
    Auto,
    /// Nothing: the listener is for whoever watches the server, and serves `/livez`, `/readyz` and `/metrics` to everybody.
    Metrics,
}

impl BareWs {
    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hive => "hive",
            Self::MegaBot => "megabot",
            Self::Auto => "auto",
            Self::Metrics => "metrics",
        }
    }
}

/// One listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// What a bare `/ws` means.
    pub bare_ws: BareWs,
    /// False: a credential is needed here even on a loopback address.
    pub anonymous: bool,
    /// It speaks TLS and nothing else.
    pub tls: Option<TlsFiles>,
    /// Each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate in PEM form, then those that vouch for it, if clients need them.
    pub certificate: PathBuf,
    /// Its private key in PEM form.
    pub key: PathBuf,
}

impl Listener {
    /// Whether clients without credentials may come in here: a loopback address, and nobody has switched it off.
    pub fn lets_guests_in(&self, everywhere: bool) -> bool {
        everywhere
            && self.anonymous
            && self.bare_ws != BareWs::Metrics
            && self.address.ip().to_canonical().is_loopback()
    }
}

impl FromStr for Listener {
    type Err = String;

    /// Reads `ADDRESS:PORT[=hive|megabot|auto|metrics][/no-guests]`; `localhost` is 127.0.0.1.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, anonymous) = text.strip_suffix("/no-guests").map_or((text, true), |rest| (rest, false));
        let (address, meaning) = rest.split_once('=').unwrap_or((rest, "auto"));
        let bare_ws = match meaning {
            "hive" => BareWs::Hive,
            "megabot" => BareWs::MegaBot,
            "auto" => BareWs::Auto,
            "metrics" => BareWs::Metrics,
            other => return Err(format!("`{other}` is not hive, megabot, auto or metrics")),
        };
        let local = address.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = local.as_deref().unwrap_or(address).parse().map_err(|_| {
            format!("`{address}` is no address with port, such as 127.0.0.1:3001 or [::1]:3001")
        })?;
        Ok(Self { address, bare_ws, anonymous, tls: None, proxy_protocol: false })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guests = if self.anonymous { "" } else { "/no-guests" };
        write!(f, "{}={}{guests}", self.address, self.bare_ws.as_str())
    }
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        if self.tls.is_none() && !self.proxy_protocol {
            return serializer.collect_str(self);
        }
        let fields = 4 + usize::from(self.tls.is_some());
        let mut table = serializer.serialize_struct("Listener", fields)?;
        table.serialize_field("address", &self.address)?;
        table.serialize_field("bare_ws", &self.bare_ws)?;
        table.serialize_field("anonymous", &self.anonymous)?;
        table.serialize_field("proxy_protocol", &self.proxy_protocol)?;
        if let Some(tls) = &self.tls {
            table.serialize_field("tls", tls)?;
        }
        table.end()
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            #[serde(default)]
            bare_ws: BareWs,
            #[serde(default = "yes")]
            anonymous: bool,
            #[serde(default)]
            tls: Option<TlsFiles>,
            #[serde(default)]
            proxy_protocol: bool,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a listener is ADDRESS:PORT=MEANING or {address, bare_ws, anonymous, tls, proxy_protocol}"
        )]
        enum Form {
            Text(String),
            Table(Table),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => text.parse().map_err(D::Error::custom),
            Form::Table(table) => {
                let listener: Self = table.address.parse().map_err(D::Error::custom)?;
                let Table { bare_ws, anonymous, tls, proxy_protocol, .. } = table;
                Ok(Self { bare_ws, anonymous, tls, proxy_protocol, ..listener })
            }
        }
    }
}

fn yes() -> bool {
    true
}

/// All listeners, at least one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Listeners {
    read: Vec<Listener>,
    /// What is wrong with entries that could not be read: the others are looked at all the same.
    #[serde(skip)]
    wrong: Vec<String>,
}

impl Listeners {
    /// These.
    pub fn of(listeners: Vec<Listener>) -> Self {
        Self { read: listeners, wrong: Vec::new() }
    }

    /// The list.
    pub fn as_slice(&self) -> &[Listener] {
        &self.read
    }

    /// What is wrong with single entries; whoever reads settings refuses them.
    pub(crate) fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// What is wrong with the list as a whole.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.wrong.is_empty() && self.read.iter().all(|listener| listener.bare_ws == BareWs::Metrics) {
            found.push("server.listen names no listener for clients".into());
        }
        for (n, listener) in self.read.iter().enumerate() {
            let same = |other: &Listener| other.address == listener.address && other.address.port() != 0;
            if self.read.iter().take(n).any(same) {
                found.push(format!("server.listen has {} twice", listener.address));
            }
        }
        found
    }
}

impl Default for Listeners {
    fn default() -> Self {
        let local = |port, bare_ws| Listener {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            bare_ws,
            anonymous: true,
            tls: None,
            proxy_protocol: false,
        };
        Self::of(vec![local(3001, BareWs::Hive), local(3000, BareWs::MegaBot), local(8080, BareWs::Auto)])
    }
}

impl<'de> Deserialize<'de> for Listeners {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let items = match value {
            toml::Value::Array(items) => items,
            toml::Value::String(text) if !text.trim_start().starts_with('[') => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| toml::Value::String(part.to_owned()))
                .collect(),
            _ => return Err(D::Error::custom("must be a list of listeners")),
        };
        let mut all = Self::of(Vec::new());
        for (number, item) in items.into_iter().enumerate() {
            match item.try_into::<Listener>() {
                Ok(listener) => all.read.push(listener),
                Err(error) => all.wrong.push(format!("entry {}: {}", number + 1, error.message().trim())),
            }
        }
        Ok(all)
    }
}
