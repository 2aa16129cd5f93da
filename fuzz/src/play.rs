//! Sessions and REST of the dialects: the input is a transcript whose expectations nobody looks at, so that those under
//! `conformance/` are seeds as they stand.

use std::collections::BTreeMap;

use roundtable_core::event::Event;
use roundtable_core::state::State;
use roundtable_dialects::session::Dialect;
use roundtable_dialects::transcript::line::{Step, Transport, word};
use roundtable_dialects::transcript::{Door, Got, Names, Theatre, frame, parse};

use super::cast::Cast;

/// Lines that are played, at most.
const LINES: usize = 96;
/// Clients at a time, at most.
const CLIENTS: usize = 8;
/// Time that one line lets pass, in milliseconds, at most.
const LONGEST_MS: i64 = 3_600_000;
/// Bytes of a frame towards a client on plain WebSockets (1 MiB is what Python's `websockets` takes).
const LARGEST: usize = 1 << 20;

/// People, rooms and tokens that are there already.
const BEFORE: &str = "@ agent scribe\n@ agent other\n@ user ann\n@ user bob\n@ room hall\n@ room vault entry=private\n\
    @ token $scribe aiwm agent:scribe\n@ token $ann_chat aiwm user:ann\n@ token $ann login user:ann\n\
    @ token $mxf mxf agent:other\n@ token $node open-agi node:n9\n@ token $bob open-agi user:bob\n";

struct Play {
    cast: Cast,
    names: Names,
    /// By what each client talks.
    here: BTreeMap<String, Transport>,
    ids: Vec<String>,
    /// Frames that came since the last thing was sent.
    told: usize,
}

/// Plays the input; lines that mean nothing are passed over. `home` comes in first, by a token of its own.
pub fn run(home: Dialect, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut play = Play::new();
    for line in BEFORE.lines() {
        assert!(play.line(line), "{line}");
    }
    let door = match home {
        Dialect::Mxf => "mxf {\"token\":\"$mxf\",\"domainKey\":\"$domain_key\"}",
        Dialect::Aiwm => "aiwm {\"token\":\"$ann_chat\"}",
        Dialect::Hive => "hive ?token=$ann",
        Dialect::OpenAgi => "open-agi ?token=$bob",
        Dialect::MegaBot => "megabot ?token=$ann",
    };
    play.line(&format!("home = {door}"));
    for line in text.lines().take(LINES) {
        play.line(line);
    }
    play.kept();
}

/// Sends a binary frame to MegaBot, where only gzip means anything: the input as it is or, if its first byte is odd, behind
/// a good header. It is answered, or it was a frame like any other.
pub fn packed(data: &[u8]) {
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let Some((first, rest)) = data.split_first() else { return };
    let bytes = if first & 1 == 1 { [HEADER.as_slice(), rest].concat() } else { rest.to_vec() };
    let mut play = Play::new();
    play.line("home = megabot");
    play.look(None);
    let told = play.send("home", &format!("binary {}", frame::hex(&bytes)));
    assert!(told.is_ok() && (play.told > 0 || !play.cast.is_here("home")), "no answer");
}

impl Play {
    fn new() -> Self {
        let (cast, mut names) = (Cast::new(), Names::default());
        cast.introduce(&mut names);
        Self { cast, names, here: BTreeMap::new(), ids: Vec::new(), told: 0 }
    }

    /// Plays one line. False if it means nothing.
    fn line(&mut self, line: &str) -> bool {
        let Ok(lines) = parse(line) else { return false };
        let Some(step) = lines.into_iter().next().map(|line| line.step) else { return false };
        let done = match step {
            Step::SetUp(what) => self.cast.set_up(&what, &mut self.names),
            Step::Wait(ms) => self.cast.wait(ms.clamp(0, LONGEST_MS)),
            Step::Open(client, door) => self.open(client, &door),
            Step::Send(client, text) => self.send(&client, &text),
            Step::Leave(client) => self.cast.leave(&client),
            _ => Ok(()),
        };
        self.look(None);
        done.is_ok()
    }

    fn open(&mut self, client: String, door: &str) -> Result<(), String> {
        if self.here.len() >= CLIENTS && !self.here.contains_key(&client) {
            return Err("enough".into());
        }
        let door = Door::parse(&self.filled(door))?;
        self.cast.open(&client, &door)?;
        self.here.insert(client, door.transport);
        Ok(())
    }

    fn send(&mut self, client: &str, text: &str) -> Result<(), String> {
        let text = self.filled(text);
        let transport = self.here.get(client).copied();
        let alive = self.cast.is_here(client);
        self.told = 0;
        self.cast.send(client, &text)?;
        match transport {
            Some(Transport::SocketIo) if alive => {
                let asked = match frame::packet(&text) {
                    Ok(frame::Packet::Event { ack, .. }) => ack,
                    _ => None,
                };
                let told = self.look(Some(client));
                if let Some(id) = asked.filter(|_| self.cast.is_known(client)) {
                    let answer = format!("ack {id} ");
                    let answers = told.iter().filter(|got| got.starts_with(&answer)).count();
                    assert_eq!(answers, 1, "every acknowledgement is answered once: {text}\n{told:?}");
                }
            }
            Some(Transport::WebSocket) if alive => {
                let binary = text.starts_with("binary ");
                let broken = serde_json::from_str::<serde_json::Value>(&text).is_err() && !binary;
                let told = self.look(Some(client));
                if broken && self.cast.is_known(client) {
                    assert!(!told.is_empty(), "what is no JSON is answered: {text}");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at what everybody got; gives back what one of them got.
    fn look(&mut self, client: Option<&str>) -> Vec<String> {
        let mut wanted = Vec::new();
        for name in self.cast.clients() {
            let transport = self.here.get(&name).copied();
            while let Some(got) = self.cast.next(&name) {
                let Got::Frame(text) = got else { continue };
                self.told += 1;
                self.note_ids(&text);
                fine(&text, transport);
                if client == Some(name.as_str()) {
                    wanted.push(text);
                }
            }
        }
        wanted
    }

    /// Ids that the server made, for later lines to use.
    fn note_ids(&mut self, text: &str) {
        if self.ids.len() > 256 {
            return;
        }
        for part in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-') {
            let made = part.len() >= 20 && part.len() <= 48 && part.bytes().any(|byte| byte.is_ascii_digit());
            if made && !self.ids.iter().any(|id| id == part) {
                self.ids.push(part.to_owned());
            }
        }
    }

    /// A text with its `$names` filled in: what is known by that name, else one of the ids that came by, by the name's sum.
    fn filled(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, tail) = braced.unwrap_or_else(|| {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            });
            let sum = name.bytes().map(usize::from).sum::<usize>();
            match self.names.get(name) {
                Some(known) => out.push_str(known),
                None => match self.ids.len() {
                    0 => out.push('x'),
                    many => out.push_str(&self.ids[many - 1 - sum % many]),
                },
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    /// Every record comes back from its written form, and all of them give the same state again.
    fn kept(&self) {
        let world = &self.cast.world;
        let mut again = State::default();
        for record in &world.records {
            let body = record.event.body().unwrap();
            let read = Event::read(record.event.kind(), &body);
            assert_eq!(read.as_ref(), Ok(&record.event), "{} {body}", record.event.kind());
            again.apply(record);
        }
        assert!(again == world.state, "the log gives another state");
        let text = serde_json::to_string(&world.state).unwrap();
        let back: State = serde_json::from_str(&text).unwrap();
        assert!(back == world.state, "a snapshot gives another state");
    }
}

/// A frame or an answer has the form its client can read.
fn fine(text: &str, transport: Option<Transport>) {
    assert!(!text.contains("hash of admin-password"), "what is kept of a password: {text}");
    match transport {
        Some(Transport::SocketIo) => {
            let json = if text == "connect" {
                return;
            } else if let Some(data) = text.strip_prefix("connect_error ") {
                data
            } else if let Some(rest) = text.strip_prefix("ack ") {
                word(rest).1
            } else {
                text
            };
            let mut values = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>();
            assert!(matches!(values.next(), Some(Ok(_))), "no JSON: {text}");
        }
        Some(Transport::WebSocket) => {
            assert!(text.len() <= LARGEST, "{} bytes", text.len());
            let json = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert!(json || text.starts_with("binary "), "no JSON: {text}");
        }
        _ => {
            let status = word(text).0.parse::<u16>().unwrap_or(0);
            assert!((200..=599).contains(&status) && status != 500, "no answer: {text}");
        }
    }
}
