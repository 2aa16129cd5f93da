//! Lines: who does what, or gets what.

use super::setup::SetUp;
use crate::session::Dialect;

/// One line of a transcript.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// As it stands in the file.
    pub text: String,
    /// What it means.
    pub step: Step,
}

/// What a line means. Texts still contain their `$names`.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Nothing: empty, or after `#`.
    Remark,
    /// `@ …`: something that is there, or that the server does.
    SetUp(SetUp),
    /// `@ wait 10s`: time passes, in milliseconds.
    Wait(i64),
    /// `@ memory-only REASON`: not played against a running server.
    Skip(String),
    /// `@ over-sockets 10 section.key=value …`: a running server has these settings, and waits are so many times shorter.
    OverSockets(i64, Vec<String>),
    /// `NAME = …`: a client comes.
    Open(String, String),
    /// `NAME > …`: a client sends.
    Send(String, String),
    /// `NAME leaves`: a client goes.
    Leave(String),
    /// `NAME < …` or `NAME x …`: what a client gets next, with its arrow.
    Expect(String, String),
    /// `NAME < nothing`: nobody has got anything else.
    Nothing(String),
}

/// Reads a transcript. Fails with the number of the first line that says nothing it could mean.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let line = |(number, text): (usize, &str)| {
        let step = step(text.trim()).map_err(|why| format!("{number}: {text}\n  {why}"))?;
        Ok(Line { number, text: text.to_owned(), step })
    };
    (1..).zip(text.lines()).map(line).collect()
}

fn step(text: &str) -> Result<Step, String> {
    if text.is_empty() || text.starts_with('#') {
        return Ok(Step::Remark);
    }
    let (first, rest) = word(text);
    if first == "@" {
        return server(rest);
    }
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !first.chars().all(good) {
        return Err(format!("`{first}` is no name of a client"));
    }
    let (verb, rest) = word(rest);
    let (name, rest) = (first.to_owned(), rest.to_owned());
    match verb {
        "=" => Ok(Step::Open(name, rest)),
        ">" => Ok(Step::Send(name, rest)),
        "<" if rest == "nothing" => Ok(Step::Nothing(name)),
        "<" => Ok(Step::Expect(name, format!("< {rest}"))),
        "x" => Ok(Step::Expect(name, format!("x {rest}").trim_end().to_owned())),
        "leaves" if rest.is_empty() => Ok(Step::Leave(name)),
        _ => Err("after the name comes one of `=`, `>`, `<`, `x`, `leaves`".into()),
    }
}

fn server(text: &str) -> Result<Step, String> {
    let (what, rest) = word(text);
    match what {
        "wait" => milliseconds(rest).map(Step::Wait),
        "over-sockets" => over_sockets(rest),
        "memory-only" if !rest.is_empty() => Ok(Step::Skip(rest.to_owned())),
        "memory-only" => Err("why?".into()),
        _ => SetUp::parse(text).map(Step::SetUp),
    }
}

fn over_sockets(text: &str) -> Result<Step, String> {
    let (times, settings) = word(text);
    let times = times.parse().ok().filter(|times| *times > 0);
    let times = times.ok_or("how many times shorter are waits?")?;
    let settings: Vec<String> = settings.split_whitespace().map(str::to_owned).collect();
    if settings.iter().all(|setting| setting.contains('=')) {
        Ok(Step::OverSockets(times, settings))
    } else {
        Err("settings are section.key=value".into())
    }
}

/// The first word and what follows it, without the space between.
pub fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim_start())
}

/// `250ms`, `10s`, `3m`, `2h` in milliseconds.
pub fn milliseconds(text: &str) -> Result<i64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let read = |(unit, ms): (&str, i64)| text.strip_suffix(unit)?.parse::<i64>().ok()?.checked_mul(ms);
    units.into_iter().find_map(read).ok_or_else(|| format!("`{text}` is no span such as 250ms, 10s, 3m, 2h"))
}

/// How a client connects: what stands after `NAME =`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Door {
    /// Which dialect.
    pub dialect: Dialect,
    /// By which transport.
    pub transport: Transport,
    /// The Socket.IO namespace; `/` elsewhere.
    pub namespace: String,
    /// The request's path.
    pub path: String,
    /// The request's query, without `?`.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `X-API-Key` header.
    pub api_key: Option<String>,
    /// The payload of the CONNECT packet, JSON.
    pub auth: Option<String>,
    /// Credentials may not be left out, as on an address that other machines reach.
    pub strict: bool,
}

/// By what a client talks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Socket.IO; frames are events and acknowledgements.
    SocketIo,
    /// A plain WebSocket; frames are texts.
    WebSocket,
    /// Requests and answers.
    Http,
}

impl Door {
    /// Reads `DIALECT [raw|http] [strict] [/path][?query] [bearer=…] [key=…] [{auth}]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, mut rest) = word(text);
        let mut door = Self::of(name).ok_or_else(|| format!("`{name}` is no dialect"))?;
        while !rest.is_empty() {
            if rest.starts_with(['{', '[']) || rest == "null" {
                door.auth = Some(rest.to_owned());
                break;
            }
            let (option, after) = word(rest);
            rest = after;
            match option.split_once('=') {
                _ if option == "raw" => {
                    (door.transport, door.path) = (Transport::WebSocket, "/dev/aiwm/chat".into())
                }
                _ if option == "http" => door.transport = Transport::Http,
                _ if option == "strict" => door.strict = true,
                _ if option.starts_with(['/', '?']) => door.place(option),
                Some(("bearer", token)) => door.authorization = Some(format!("Bearer {token}")),
                Some(("authorization", text)) => door.authorization = Some(text.into()),
                Some(("key", key)) => door.api_key = Some(key.into()),
                _ => return Err(format!("`{option}` says nothing about a door")),
            }
        }
        if door.transport != Transport::SocketIo {
            door.namespace = "/".into();
        }
        Ok(door)
    }

    fn of(name: &str) -> Option<Self> {
        let (dialect, transport, namespace, path) = match name {
            "mxf" => (Dialect::Mxf, Transport::SocketIo, "/", "/socket.io/"),
            "aiwm" => (Dialect::Aiwm, Transport::SocketIo, "/dev/aiwm/chat", "/socket.io/"),
            "hive" => (Dialect::Hive, Transport::WebSocket, "/", "/ws"),
            "open-agi" => (Dialect::OpenAgi, Transport::WebSocket, "/", "/api/v1/ws"),
            "megabot" => (Dialect::MegaBot, Transport::WebSocket, "/", "/ws"),
            _ => return None,
        };
        Some(Self {
            dialect,
            transport,
            namespace: namespace.into(),
            path: path.into(),
            query: String::new(),
            authorization: None,
            api_key: None,
            auth: None,
            strict: false,
        })
    }

    /// A path (on Socket.IO: a namespace) with a query.
    fn place(&mut self, text: &str) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        if !query.is_empty() {
            self.query = query.into();
        }
        match self.transport {
            _ if path.is_empty() => {}
            Transport::SocketIo => self.namespace = path.into(),
            Transport::WebSocket | Transport::Http => self.path = path.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Door, Step, Transport, milliseconds, parse};

    #[test]
    fn lines_are_told_apart() {
        let text = "# a\n\nann = mxf {\"a\":1}\nann > [\"x\"]\nann < [\"y\"]\nann x\nann < nothing\nann leaves\n@ wait 2s";
        let steps: Vec<Step> = parse(text).unwrap().into_iter().map(|line| line.step).collect();
        assert_eq!(steps[2], Step::Open("ann".into(), "mxf {\"a\":1}".into()));
        assert_eq!(steps[4], Step::Expect("ann".into(), "< [\"y\"]".into()));
        assert_eq!(steps[5], Step::Expect("ann".into(), "x".into()));
        assert_eq!(steps[6], Step::Nothing("ann".into()));
        assert_eq!(steps[8], Step::Wait(2_000));
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for bad in [
            "ann ? x",
            "a/b > x",
            "@ nothing of the kind",
            "@ wait long",
            "@ memory-only",
            "@ over-sockets 0",
        ] {
            assert!(parse(&format!("\n{bad}")).unwrap_err().starts_with("2: "), "{bad}");
        }
    }

    #[test]
    fn doors_have_what_their_dialect_needs() {
        let door = Door::parse("aiwm /chat?a=b bearer=t {\"x\":1}").unwrap();
        assert_eq!((door.namespace.as_str(), door.path.as_str()), ("/chat", "/socket.io/"));
        assert_eq!((door.query.as_str(), door.auth.as_deref()), ("a=b", Some("{\"x\":1}")));
        assert_eq!(door.authorization.as_deref(), Some("Bearer t"));
        let raw = Door::parse("aiwm raw ?token=t").unwrap();
        assert_eq!((raw.namespace.as_str(), raw.path.as_str()), ("/", "/dev/aiwm/chat"));
        assert_eq!(Door::parse("hive http").unwrap().transport, Transport::Http);
        assert!(Door::parse("smoke signals").is_err());
        assert!(Door::parse("hive loud").is_err());
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(milliseconds("250ms"), Ok(250));
        assert_eq!(milliseconds("3m"), Ok(180_000));
        assert!(milliseconds("10").is_err());
    }
}
