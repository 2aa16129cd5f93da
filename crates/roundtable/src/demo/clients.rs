//! The clients, each in the words of its dialect: how it comes in, what it sends, what it makes of what it hears.

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use crate::line::{ANSWER, Attempt, Line, post};

use super::{Keys, LINES, ROOM, Said, Seen, Stage};

/// What a client tells the one who writes down.
#[derive(Debug)]
pub enum Told {
    Said(Said),
    Seen(Seen),
    Lost(String),
}

/// What an event says: who, in which role, and the text. `None` for events that do not matter here.
type Read = fn(&str, &Value) -> Option<[String; 3]>;

/// A client that has come in.
pub struct Client {
    dialect: &'static str,
    line: Line,
    read: Read,
    /// The event that carries its words, until it has said them.
    says: Option<(&'static str, Value)>,
}

impl Client {
    /// Says its words, once.
    pub async fn speak(&mut self, tell: &UnboundedSender<Told>) -> Attempt<()> {
        if let Some((event, data)) = self.says.take() {
            self.line.say(event, &data).await?;
            if let Some(said) = LINES.into_iter().find(|said| said.who == self.line.who) {
                tell.send(Told::Said(said))?;
            }
        }
        Ok(())
    }

    /// Tells what it sees, and answers ada, until its connection or the demo ends.
    pub async fn attend(mut self, tell: UnboundedSender<Told>) {
        if let Err(error) = self.take_part(&tell).await {
            // Nobody listens any more when the demo is over.
            let _ = tell.send(Told::Lost(format!("{} ({}): {error}", self.line.who, self.dialect)));
        }
    }

    async fn take_part(&mut self, tell: &UnboundedSender<Told>) -> Attempt<()> {
        loop {
            let (event, data) = self.line.hear().await?;
            let Some([from, role, text]) = (self.read)(&event, &data) else { continue };
            let asked = from == "ada";
            let event = data.get("event").and_then(Value::as_str).map_or(event, str::to_owned);
            tell.send(Told::Seen(Seen {
                who: self.line.who,
                dialect: self.dialect,
                event,
                from,
                role,
                text,
            }))?;
            if asked {
                self.speak(tell).await?;
            }
        }
    }
}

/// The text at a path such as `/payload/content`; empty if there is none.
fn at(data: &Value, path: &str) -> String {
    data.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn words_of(who: &str) -> &'static str {
    LINES.iter().find(|said| said.who == who).map_or("", |said| said.text)
}

/// Hive: connects, and is sent everything.
pub async fn dashboard(stage: &Stage) -> Attempt<Client> {
    let mut line = Line::plain("dashboard", &format!("ws://{}/ws", stage.agents)).await?;
    line.wait_for("hive_status_update").await?;
    let read: Read = |event, frame| match event {
        "agent_created" => Some([at(frame, "/data/agent/id"), String::new(), "is known now".into()]),
        "agent_status_changed" => {
            let change = format!("{} -> {}", at(frame, "/data/old_status"), at(frame, "/data/new_status"));
            Some([at(frame, "/data/agent_id"), String::new(), change])
        }
        _ => None,
    };
    Ok(Client { dialect: "Hive", line, read, says: None })
}

/// Open-A.G.I: a token for a node's name and key, then the connection.
pub async fn node(stage: &Stage, name: &'static str) -> Attempt<Line> {
    let body = json!({"node_id": name, "public_key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="});
    let answer = post(format!("http://{}/api/v1/auth/token", stage.nodes), "", body).await?;
    Line::plain(name, &format!("ws://{}/api/v1/ws?token={}", stage.nodes, at(&answer, "/token"))).await
}

/// Open-A.G.I: a node that subscribes.
pub async fn watcher(stage: &Stage) -> Attempt<Client> {
    let mut line = node(stage, "watcher").await?;
    line.say("", &json!({"type": "subscribe", "channel": "network_events"})).await?;
    line.wait_for("subscribed").await?;
    let read: Read = |_, frame| {
        let told =
            || [at(frame, "/data/node_id"), String::new(), format!("from {}", at(frame, "/data/address"))];
        (at(frame, "/event") == "node_joined").then(told)
    };
    Ok(Client { dialect: "Open-A.G.I", line, read, says: None })
}

/// The operator's part: a room, two agents, and a channel key for one of them.
pub async fn keys(stage: &Stage) -> Attempt<Keys> {
    let admin = async |path: &str, body: Value| {
        post(format!("http://{}/admin/v1{path}", stage.agents), &stage.credentials.admin_token, body).await
    };
    admin("/rooms", json!({"room": ROOM})).await?;
    admin("/agents", json!({"agent_id": "scout"})).await?;
    let scribe = admin("/agents", json!({"agent_id": "scribe"})).await?;
    let key = admin("/keys", json!({"agent": "scout", "room": ROOM})).await?;
    let (key_id, key_secret) = (at(&key, "/key_id"), at(&key, "/secret"));
    Ok(Keys { key_id, key_secret, scribe_secret: at(&scribe, "/secret") })
}

/// MXF: comes in with a channel key and joins with a flat event.
pub async fn scout(stage: &Stage, keys: &Keys) -> Attempt<Client> {
    let auth = json!({"domainKey": stage.credentials.domain_key, "agentId": "scout",
        "keyId": keys.key_id, "secretKey": keys.key_secret});
    let mut line = Line::socketio("scout", &stage.agents.to_string(), "/", &auth).await?;
    line.wait_for("auth:success").await?;
    line.say("channel:join", &json!({"channelId": ROOM, "agentId": "scout"})).await?;
    line.wait_for(ANSWER).await?;
    let read: Read = |event, said| {
        (event == "message").then(|| [at(said, "/from"), at(said, "/role"), at(said, "/content")])
    };
    let says = ("message:send", json!({"channelId": ROOM, "content": words_of("scout")}));
    Ok(Client { dialect: "MXF", line, read, says: Some(says) })
}

/// AIWM: gets a token for its secret, comes in with it, and joins the room beside its own conversation.
pub async fn scribe(stage: &Stage, keys: &Keys) -> Attempt<Client> {
    let url = format!("http://{}/dev/aiwm/agents/scribe/connect", stage.agents);
    let answer = post(url, "", json!({"secret": keys.scribe_secret})).await?;
    let auth = json!({"token": at(&answer, "/accessToken")});
    let mut line = Line::socketio("scribe", &stage.agents.to_string(), "/dev/aiwm/chat", &auth).await?;
    line.say("conversation:join", &json!({"conversationId": ROOM})).await?;
    line.wait_for(ANSWER).await?;
    let read: Read = |event, said| {
        (event == "message:new")
            .then(|| [at(said, "/participantId"), at(said, "/role"), at(said, "/content")])
    };
    let data = json!({"conversationId": ROOM, "role": "assistant", "content": words_of("scribe")});
    Ok(Client { dialect: "AIWM", line, read, says: Some(("message:send", data)) })
}

/// MegaBot: a guest, as everybody on this machine may be.
pub async fn ada(stage: &Stage) -> Attempt<Client> {
    let mut line = Line::plain("ada", &format!("ws://{}/ws?user_id=ada", stage.people)).await?;
    line.wait_for("connection_established").await?;
    line.say("", &json!({"id": "1", "type": "session_join", "payload": {"session_id": ROOM}})).await?;
    line.wait_for("session_joined").await?;
    let read: Read = |event, frame| {
        let from = [at(frame, "/payload/user_id"), at(frame, "/payload/agent_id")].concat();
        (event == "chat_receive").then(|| [from, at(frame, "/payload/sender"), at(frame, "/payload/content")])
    };
    let payload = json!({"session_id": ROOM, "content": words_of("ada")});
    let says = ("", json!({"id": "2", "type": "chat_send", "payload": payload}));
    Ok(Client { dialect: "MegaBot", line, read, says: Some(says) })
}
