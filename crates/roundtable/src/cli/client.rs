//! Asking a running server over its operator's interface.

use std::fmt;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use crate::auth::first_start::{CREDENTIALS, FirstCredentials};
use crate::cli::place::Place;
use crate::cli::trust::Trust;
use crate::cli::{Exit, Target};

/// Where data are if nobody says so.
const DATA: &str = "data";
/// A server that has just opened its listeners notes them a moment later: so often its note is looked for, every 20 ms.
const LOOKS: u32 = 50;
/// How long an answer may take: writes wait for a disk, passwords for their turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer in bytes: pages have 1 MiB, and a single thing may have more.
const MAX_ANSWER: u64 = 64 << 20;

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// No server, and what was tried.
    Unreachable(String),
    /// No admin token, or one that the server does not take.
    NotAllowed(String),
    /// The server says no.
    Refused(String),
    /// The server answered something unheard of.
    Answer(String),
    /// Nobody reads the output any more.
    Closed,
    /// The output takes nothing more.
    Unwritten {
        /// What has happened all the same.
        happened: Option<String>,
        /// The system's reason.
        why: String,
    },
}

impl Failure {
    /// The exit code.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Unreachable(_) => Exit::Unreachable,
            Self::NotAllowed(_) => Exit::NotAllowed,
            Self::Refused(_) | Self::Answer(_) => Exit::Refused,
            Self::Closed => Exit::Done,
            Self::Unwritten { .. } => Exit::Unwritten,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) | Self::NotAllowed(what) | Self::Refused(what) => f.write_str(what),
            Self::Answer(what) => write!(f, "the server's answer cannot be read: {what}"),
            Self::Closed => f.write_str("nobody reads the output"),
            Self::Unwritten { happened: Some(happened), why } => {
                write!(f, "{happened}\nroundtable: only the answer could not be written: {why}")
            }
            Self::Unwritten { happened: None, why } => write!(f, "the answer could not be written: {why}"),
        }
    }
}

/// A connection's worth of knowledge: address and token.
pub struct Client {
    base: String,
    token: String,
    workspace: Option<String>,
    agent: ureq::Agent,
    trust: Trust,
    ca: Option<PathBuf>,
}

impl Client {
    /// Finds the server and the token: from the arguments, else in the data directory.
    pub fn find(target: &Target) -> Result<Self, Failure> {
        let dir = target.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
        let base = match &target.server {
            Some(url) if url.contains("://") => url.trim_end_matches('/').to_owned(),
            Some(address) => format!("http://{address}"),
            None => noted(&dir)?,
        };
        let token = match &target.token {
            Some(token) => token.clone(),
            None => token_in(&dir)?,
        };
        let workspace = target.workspace.as_deref().map(encoded);
        let trust = Trust::of(&dir, target.ca.as_deref()).map_err(Failure::Unreachable)?;
        let agent = agent(Some(PATIENCE), trust.clone());
        Ok(Self { base, token, workspace, agent, trust, ca: target.ca.clone() })
    }

    /// The token that is shown.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same for what takes as long as the log is large: it waits for its answer until the server gives it or is gone.
    pub fn patient(self) -> Self {
        Self { agent: agent(None, self.trust.clone()), ..self }
    }

    /// One request with a JSON body; reads the answer as a type.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let text = match method {
            "GET" | "DELETE" => String::new(),
            _ => serde_json::to_string(body).map_err(|error| Failure::Answer(error.to_string()))?,
        };
        let mut response = self.send(method, path, text)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let text = body.read_to_string().map_err(|error| self.lost(&error))?;
        serde_json::from_str(&text).map_err(|error| Failure::Answer(error.to_string()))
    }

    /// A whole list, page by page: `items` is where a page has its part of it.
    pub fn all<T: DeserializeOwned>(&self, path: &str, items: &str) -> Result<T, Failure> {
        let missing = || Failure::Answer(format!("it has no {items}"));
        let mut whole: Value = self.ask("GET", path, &Value::Null)?;
        while let Some(next) = whole.as_object_mut().and_then(|list| list.remove("next")) {
            let next = next.as_str().ok_or_else(missing)?;
            let mut page: Value =
                self.ask("GET", &format!("{path}?after={}", encoded(next)), &Value::Null)?;
            let more = page.get_mut(items).and_then(Value::as_array_mut).map(std::mem::take);
            whole
                .get_mut(items)
                .and_then(Value::as_array_mut)
                .ok_or_else(missing)?
                .extend(more.ok_or_else(missing)?);
            if let (Some(next), Some(list)) = (page.get_mut("next").map(Value::take), whole.as_object_mut()) {
                list.insert("next".into(), next);
            }
        }
        serde_json::from_value(whole).map_err(|error| Failure::Answer(error.to_string()))
    }

    /// A request whose answer is lines of JSON without end; calls `line` with each. Fails when the server closes.
    pub fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        mut line: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let response = self.send("GET", path, String::new())?;
        for text in BufReader::new(response.into_body().into_reader()).lines() {
            let text = text.map_err(|error| self.lost(&error))?;
            line(serde_json::from_str(&text).map_err(|error| Failure::Answer(error.to_string()))?)?;
        }
        Err(Failure::Unreachable(format!("the server at {} closed the connection", self.base)))
    }

    fn uri(&self, path: &str) -> String {
        let base = &self.base;
        let Some(workspace) = &self.workspace else { return format!("{base}/admin/v1{path}") };
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{base}/admin/v1{path}{joint}workspace={workspace}")
    }

    fn send(&self, method: &str, path: &str, body: String) -> Result<http::Response<ureq::Body>, Failure> {
        let request = http::Request::builder()
            .method(method)
            .uri(self.uri(path))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| Failure::Unreachable(format!("{}: {error}", self.base)))?;
        let mut response = self.agent.run(request).map_err(|error| self.lost(&error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let said = answer.pointer("/error/message").and_then(Value::as_str);
        let what = said.map_or_else(|| format!("the server answered {status}"), str::to_owned);
        Err(if matches!(status, 401 | 403) { Failure::NotAllowed(what) } else { Failure::Refused(what) })
    }

    fn lost(&self, error: &dyn fmt::Display) -> Failure {
        let what = format!("no answer from {}: {error}", self.base);
        if !what.contains("invalid peer certificate") {
            return Failure::Unreachable(what);
        }
        Failure::Unreachable(match &self.ca {
            Some(ca) => format!("{what}; nothing in {} vouches for it", ca.display()),
            None => format!("{what}; name a file with --ca that holds it, or the one that vouches for it"),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

fn agent(patience: Option<Duration>, trust: Trust) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(patience)
        .build();
    ureq::Agent::with_parts(config, TcpConnector::default().chain(trust), DefaultResolver::default())
}

fn noted(dir: &Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| {
        let what = format!("{}: {error}; the server's own user may read it", dir.display());
        Failure::NotAllowed(format!("{what}, or name the server and its token with --server and --token"))
    };
    for look in 0..LOOKS {
        if let Some(address) = Place::read(dir).map_err(unreadable)?.and_then(|place| place.address()) {
            return Ok(address);
        }
        // Without secrets no server was ever started here.
        if !dir.join(crate::auth::secrets::FILE).try_exists().map_err(unreadable)? {
            break;
        }
        if look + 1 < LOOKS {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let message =
        format!("no server runs on the data in {}; name them with --data or --server", dir.display());
    Err(Failure::Unreachable(message))
}

fn token_in(dir: &Path) -> Result<String, Failure> {
    match FirstCredentials::read(dir) {
        Ok(Some(found)) => Ok(found.admin_token),
        Ok(None) => {
            let file = dir.join(CREDENTIALS);
            Err(Failure::NotAllowed(format!(
                "there is no {}; give the admin token with --token",
                file.display()
            )))
        }
        Err(error) => Err(Failure::NotAllowed(error.to_string())),
    }
}

/// A text as one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
