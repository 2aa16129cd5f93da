//! Who talks to a server that is attacked: a client of MXF, AIWM or MegaBot that comes back, goes on where it stopped, and
//! sends again under the same client id what was not acknowledged.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::child::{Doors, first_word};
use crate::clock;
use crate::line::{ANSWER, Attempt, Heard, Line, SOCKET_IO};

/// How long one step of coming in may take: the server may be busy with a thousand others.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the ids of fences are told from those of messages.
const FENCE: &str = "-fence";
/// The number of a fence.
pub const ALL: u64 = u64::MAX;

/// What somebody comes in with.
#[derive(Clone, Debug)]
pub enum Card {
    /// MXF: domain key and an agent's channel key.
    Mxf { domain_key: String, key_id: String, secret: String },
    /// AIWM: an agent's token.
    Aiwm { token: String },
    /// MegaBot: a guest.
    MegaBot,
}

/// A client over its connections.
#[derive(Clone, Debug)]
pub struct Person {
    /// Its id, which is how its texts begin.
    pub name: String,
    /// Where it talks.
    pub room: String,
    /// Its credential.
    pub card: Card,
    /// Where it stopped: MXF's cursor, MegaBot's session.
    left_off: Option<String>,
    /// Ids of MegaBot's frames and AIWM's messages that arrived: what is sent again after a crash keeps its id.
    known: HashSet<String>,
    /// Frames that came again under an id that was known.
    pub repeats: usize,
}

/// What came, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Came {
    /// Somebody said this; the first word of it.
    Said(String),
    /// The message of this number is acknowledged; [`Person::fence`]: everything said before it.
    Taken(u64),
    /// The message of this number is refused, the fence, or something else if there is none; with the dialect's own words.
    Refused(Option<u64>, String),
    /// Something else.
    Other,
}

impl Person {
    /// Makes everything that an MXF agent needs to come into a room.
    pub async fn mxf(doors: &Doors, name: &str, room: &str) -> Attempt<Self> {
        doors.admin("/agents", json!({"agent_id": name})).await?;
        let key = doors.admin("/keys", json!({"agent": name, "room": room})).await?;
        let domain_key = doors.credentials.domain_key.clone();
        let (key_id, secret) = (text(&key, "/key_id"), text(&key, "/secret"));
        Ok(Self::new(name, room, Card::Mxf { domain_key, key_id, secret }))
    }

    /// Makes an AIWM agent.
    pub async fn aiwm(doors: &Doors, name: &str, room: &str) -> Attempt<Self> {
        doors.admin("/agents", json!({"agent_id": name})).await?;
        let issued = doors.admin("/tokens", json!({"agent": name})).await?;
        Ok(Self::new(name, room, Card::Aiwm { token: text(&issued, "/token") }))
    }

    /// An AIWM agent shows a new token from now on.
    pub async fn new_token(&mut self, doors: &Doors) -> Attempt<()> {
        if let Card::Aiwm { token } = &mut self.card {
            let issued = doors.admin("/tokens", json!({"agent": self.name})).await?;
            *token = text(&issued, "/token");
        }
        Ok(())
    }

    /// A MegaBot guest.
    pub fn megabot(name: &str, room: &str) -> Self {
        Self::new(name, room, Card::MegaBot)
    }

    fn new(name: &str, room: &str, card: Card) -> Self {
        let (name, room) = (name.to_owned(), room.to_owned());
        Self { name, room, card, left_off: None, known: HashSet::new(), repeats: 0 }
    }

    /// The dialect's name.
    pub fn dialect(&self) -> &'static str {
        match self.card {
            Card::Mxf { .. } => "MXF",
            Card::Aiwm { .. } => "AIWM",
            Card::MegaBot => "MegaBot",
        }
    }

    /// Where it connects.
    pub fn door(&self, doors: &Doors) -> std::net::SocketAddr {
        if matches!(self.card, Card::MegaBot) { doors.people } else { doors.agents }
    }

    /// Comes in over a socket that is connected to its door, back to where it stopped if it was here before. Gives what it
    /// heard before it was all the way in.
    pub async fn come(&mut self, doors: &Doors, tcp: TcpStream) -> Attempt<(Line, Vec<Came>)> {
        tokio::time::timeout(PATIENCE, self.enter(doors, tcp)).await.map_err(|_| "coming in took too long")?
    }

    /// From where it goes on when it comes the next time.
    pub fn goes_on_from(&mut self, cursor: &str) {
        self.left_off = Some(cursor.to_owned());
    }

    /// The Socket.IO namespace it comes to, and what it shows there. MegaBot has none.
    pub fn knock(&self) -> (&'static str, Value) {
        match &self.card {
            Card::Mxf { domain_key, key_id, secret } => {
                let mut auth = json!({"domainKey": domain_key, "keyId": key_id, "secretKey": secret});
                if let (Some(since), Some(auth)) = (&self.left_off, auth.as_object_mut()) {
                    auth.insert("since".into(), since.as_str().into());
                }
                ("/", auth)
            }
            Card::Aiwm { token } => ("/dev/aiwm/chat", json!({ "token": token })),
            Card::MegaBot => ("/", Value::Null),
        }
    }

    async fn enter(&mut self, doors: &Doors, tcp: TcpStream) -> Attempt<(Line, Vec<Came>)> {
        let host = self.door(doors);
        let who = self.dialect();
        let mut before = Vec::new();
        let (namespace, auth) = self.knock();
        match self.card {
            Card::Mxf { .. } => {
                let mut line = Line::over(who, tcp, &format!("ws://{host}{SOCKET_IO}"), PATIENCE).await?;
                line.enter(namespace, &auth).await?;
                self.until(&mut line, "auth:success", &mut before).await?;
                Ok((line, before))
            }
            Card::Aiwm { .. } => {
                let mut line = Line::over(who, tcp, &format!("ws://{host}{SOCKET_IO}"), PATIENCE).await?;
                line.enter(namespace, &auth).await?;
                self.until(&mut line, "connect", &mut before).await?;
                line.ask("conversation:join", &json!({"conversationId": self.room}), 0).await?;
                self.until(&mut line, ANSWER, &mut before).await?;
                Ok((line, before))
            }
            Card::MegaBot => {
                let resume = self.left_off.as_ref().map(|id| format!("&session_id={id}")).unwrap_or_default();
                let url = format!("ws://{host}/ws?user_id={}{resume}", self.name);
                let mut line = Line::over(who, tcp, &url, PATIENCE).await?;
                let first = self.until(&mut line, "connection_established", &mut before).await?;
                let resumed = first.pointer("/payload/resumed") == Some(&Value::Bool(true));
                if self.left_off.is_some() && !resumed {
                    return Err(format!("{} has lost its session", self.name).into());
                }
                self.left_off = Some(text(&first, "/payload/session_id"));
                if !resumed {
                    self.fence(&mut line).await?;
                    self.until(&mut line, "session_joined", &mut before).await?;
                }
                Ok((line, before))
            }
        }
    }

    /// Reads up to an event; what else comes is kept, a refusal is an error.
    async fn until(&mut self, line: &mut Line, event: &str, before: &mut Vec<Came>) -> Attempt<Value> {
        loop {
            let heard = line.next().await?;
            let refused = ["error", "auth:error", "connect_error", "connection_error"]
                .contains(&heard.name.as_str())
                || heard.data.get("success") == Some(&Value::Bool(false));
            if refused {
                return Err(format!("{} was refused: {} {}", self.name, heard.name, heard.data).into());
            }
            if heard.name == event {
                return Ok(heard.data);
            }
            before.push(self.make_of(&heard));
        }
    }

    /// The text of this person's message of a number.
    pub fn words(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// Says its message of a number, followed by `filling`; its client id is the text's beginning, so that saying it again
    /// has no second effect.
    pub async fn speak(&self, line: &mut Line, number: u64, filling: &str) -> Attempt<()> {
        let id = self.words(number);
        let content = format!("{id}{filling}");
        match self.card {
            Card::Mxf { .. } => {
                let data =
                    json!({"channelId": self.room, "content": content, "metadata": {"clientMessageId": id}});
                line.ask("message:send", &data, number).await
            }
            Card::Aiwm { .. } => {
                let data = json!({"conversationId": self.room, "role": "assistant", "content": content,
                    "clientMessageId": id});
                line.ask("message:send", &data, number).await
            }
            Card::MegaBot => {
                let payload = json!({"session_id": self.room, "content": content});
                line.say("", &json!({"id": id, "type": "chat_send", "payload": payload})).await
            }
        }
    }

    /// MegaBot has no acknowledgement, but answers in order: entering the room again is answered when everything said
    /// before is decided. The others acknowledge by themselves.
    pub async fn fence(&self, line: &mut Line) -> Attempt<()> {
        if !matches!(self.card, Card::MegaBot) {
            return Ok(());
        }
        // A new id each time: the same one again would not be answered.
        let id = format!("{}{FENCE}-{}", self.name, clock::random_u64());
        let payload = json!({"session_id": self.room});
        line.say("", &json!({"id": id, "type": "session_join", "payload": payload})).await
    }

    /// What an event means.
    pub fn make_of(&mut self, heard: &Heard) -> Came {
        let Heard { name, data, ack } = heard;
        match self.card {
            Card::Mxf { .. } => match name.as_str() {
                "message" => {
                    self.left_off = data
                        .get("cursor")
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                        .or(self.left_off.take());
                    Came::Said(first_word(&text(data, "/content")))
                }
                _ => answer(name, data, *ack),
            },
            Card::Aiwm { .. } if name == "message:new" && !self.known.insert(text(data, "/_id")) => {
                self.repeats += 1;
                Came::Other
            }
            Card::Aiwm { .. } if name == "message:new" => Came::Said(first_word(&text(data, "/content"))),
            Card::Aiwm { .. } => answer(name, data, *ack),
            Card::MegaBot => match name.as_str() {
                "chat_receive" if !self.known.insert(text(data, "/id")) => {
                    self.repeats += 1;
                    Came::Other
                }
                "chat_receive" => Came::Said(first_word(&text(data, "/payload/content"))),
                "session_joined" => Came::Taken(ALL),
                "error" => {
                    let request = text(data, "/payload/request_id");
                    let number = match request.rsplit_once('-') {
                        Some((before, _)) if before.ends_with(FENCE) => Some(ALL),
                        Some((_, number)) => number.parse().ok(),
                        None => None,
                    };
                    Came::Refused(number, data.pointer("/payload").unwrap_or(data).to_string())
                }
                _ => Came::Other,
            },
        }
    }
}

/// An acknowledgement of Socket.IO.
fn answer(name: &str, data: &Value, ack: Option<u64>) -> Came {
    match (name, ack, data.get("success")) {
        (ANSWER, Some(number), Some(Value::Bool(true))) => Came::Taken(number),
        (ANSWER, number, _) => Came::Refused(number, data.to_string()),
        _ => Came::Other,
    }
}

/// The text at a path; empty if there is none.
fn text(data: &Value, path: &str) -> String {
    data.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}
