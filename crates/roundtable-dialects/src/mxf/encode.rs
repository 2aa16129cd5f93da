//! From deliveries to Socket.IO events: each wire form once, shared by all sockets that get it.

pub mod shapes;

use roundtable_core::agents::{AgentChanges, AgentStatusChanged};
use roundtable_core::delivery::{Delivery, Item};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, DirectMessage, Message as Said, MessageKind, Role};
use roundtable_core::rooms::{Room, RoomUpdated};
use roundtable_core::signal::SignalBody;
use roundtable_core::time::{Cursor, Time};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::session::{Form, Message, Messages, Scene};
use crate::socketio::encode::placeholder;
use shapes::{ContentOut, event_id, iso};

/// Nothing is known of the client yet: it gets flat events and envelopes (MXF notes §4).
pub const UNDETERMINED: Form = Form(0);
/// The document's events with plain payloads.
pub const FLAT: Form = Form(1);
/// The SDK's envelopes.
pub const ENVELOPE: Form = Form(2);

/// What one form of a delivery looks like; empty if this form has no word for it.
pub fn encode(form: Form, delivery: &Delivery<'_>, scene: Scene<'_>) -> Messages {
    let mut out = Frames { form, scene, messages: Messages::new() };
    match delivery.item {
        Item::Record(record) => out.record(record),
        Item::Signal(signal) => {
            if let (SignalBody::Message(message), Some(room)) = (&signal.body, &signal.room) {
                out.said(room, signal.at, message, None);
            }
        }
    }
    out.messages
}

/// A message as a list shows it: as in `message`, with bytes as base64 text.
pub fn shown(record: &Record, room: &RoomId) -> Option<Value> {
    let Event::MessagePosted(message) = &record.event else { return None };
    let (content, format) = match &message.content {
        Content::Base64(text) => (ContentOut::Text(text), Some("base64")),
        other => (ContentOut::flat(other), None),
    };
    let mut shown = shapes::value(&FlatMessage { content, ..FlatMessage::of(room, record.at, message) });
    if let (Some(format), Some(object)) = (format, shown.as_object_mut()) {
        object.insert("format".into(), format.into());
    }
    Some(shown)
}

/// The full envelope around `data`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, D> {
    event_id: String,
    event_type: &'static str,
    timestamp: i64,
    agent_id: &'a str,
    channel_id: &'a str,
    data: D,
}

/// `message`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlatMessage<'a> {
    message_id: &'a str,
    channel_id: &'a str,
    from: &'a str,
    from_name: &'a str,
    content: ContentOut<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
    role: Role,
    metadata: &'a Json,
    timestamp: String,
    /// Where a client that comes back goes on; a message that is not kept has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl<'a> FlatMessage<'a> {
    fn of(room: &'a RoomId, at: Time, message: &'a Said) -> Self {
        Self {
            message_id: message.id.as_str(),
            channel_id: room.as_str(),
            from: message.from.id(),
            from_name: &message.from_name,
            content: ContentOut::flat(&message.content),
            kind: kind(message.kind),
            role: message.role,
            metadata: message.metadata.as_ref().unwrap_or(&EMPTY),
            timestamp: iso(at),
            cursor: None,
        }
    }
}

/// `direct_message`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlatDirect<'a> {
    message_id: &'a str,
    from: &'a str,
    to: &'a str,
    content: ContentOut<'a>,
    metadata: &'a Json,
    timestamp: String,
}

/// The `data` of `message:channel` and `message:agent`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolMessage<'a> {
    tool_type: &'static str,
    sender_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_id: Option<&'a str>,
    metadata: Map<String, Value>,
    content: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Value>,
}

/// What a message brings along to its frames.
struct Line<'a> {
    id: &'a str,
    from: &'a str,
    at: Time,
    content: &'a Content,
    metadata: Option<&'a Json>,
}

struct Frames<'a> {
    form: Form,
    scene: Scene<'a>,
    messages: Messages,
}

impl Frames<'_> {
    fn flat(&self) -> bool {
        self.form != ENVELOPE
    }

    fn envelope(&self) -> bool {
        self.form != FLAT
    }

    fn push(&mut self, name: &'static str, payload: &impl Serialize) {
        self.messages.push(Message::Event(name, shapes::text(payload)));
    }

    fn record(&mut self, record: &Record) {
        let room = record.room.as_ref();
        match (&record.event, room) {
            (Event::MessagePosted(message), Some(room)) => {
                let cursor = Cursor { epoch: self.scene.epoch, offset: record.offset };
                self.said(room, record.at, message, Some(cursor));
            }
            (Event::MessageDirect(message), _) => self.direct(record.at, message),
            (Event::RoomJoined(e), Some(room)) => self.came_or_went(record, room, &e.member, true),
            (Event::RoomLeft(e), Some(room)) => self.came_or_went(record, room, &e.member, false),
            (Event::RoomUpdated(e), Some(room)) => self.room_updated(record, room, e),
            (Event::AgentUpdated(e), _) => self.agent_updated(record, &e.agent, &e.changes),
            (Event::AgentStatusChanged(e), _) => self.status_changed(record, e),
            (Event::PresenceConnected(e), _) => self.presence(record, "agent:connected", &e.principal),
            (Event::PresenceDisconnected(e), _) => {
                self.presence(record, "agent:disconnected", &e.principal);
            }
            _ => {}
        }
    }

    /// `message` and `message:channel`.
    fn said(&mut self, room: &RoomId, at: Time, message: &Said, cursor: Option<Cursor>) {
        let (id, from) = (message.id.as_str(), message.from.id());
        let line = Line { id, from, at, content: &message.content, metadata: message.metadata.as_ref() };
        if self.flat() {
            let cursor = cursor.map(|cursor| cursor.to_string());
            let payload = FlatMessage { cursor, ..FlatMessage::of(room, at, message) };
            self.message("message", &message.content, &payload);
        }
        if self.envelope() {
            let context = Some(json!({"channelId": room.as_str()}));
            let data = line.tool_message("channelMessage", None, context);
            self.enveloped("message:channel", &line, room.as_str(), &data);
        }
    }

    /// `direct_message` and `message:agent`.
    fn direct(&mut self, at: Time, message: &DirectMessage) {
        let (id, from, to) = (message.id.as_str(), message.from.id(), message.to.id());
        let line = Line { id, from, at, content: &message.content, metadata: message.metadata.as_ref() };
        if self.flat() {
            let payload = FlatDirect {
                message_id: id,
                from,
                to,
                content: ContentOut::flat(&message.content),
                metadata: message.metadata.as_ref().unwrap_or(&EMPTY),
                timestamp: iso(at),
            };
            self.message("direct_message", &message.content, &payload);
        }
        if self.envelope() {
            let data = line.tool_message("agentMessage", Some(to), None);
            self.enveloped("message:agent", &line, shapes::NOWHERE, &data);
        }
    }

    /// A flat message; bytes go as an attachment.
    fn message(&mut self, name: &'static str, content: &Content, payload: &impl Serialize) {
        use base64::Engine as _;
        let text = shapes::text(payload);
        let bytes = match content {
            Content::Base64(text) => base64::engine::general_purpose::STANDARD.decode(text).ok(),
            Content::Text(_) | Content::Json(_) => None,
        };
        self.messages.push(match bytes {
            Some(bytes) => Message::BinaryEvent(name, text, vec![bytes.into()]),
            None => Message::Event(name, text),
        });
    }

    fn enveloped(&mut self, name: &'static str, line: &Line<'_>, channel: &str, data: &ToolMessage<'_>) {
        let event_id = event_id(self.scene.state, &format!("{name}/{}", line.id));
        let timestamp = line.at.0;
        let (agent_id, channel_id) = (line.from, channel);
        let envelope = Envelope { event_id, event_type: name, timestamp, agent_id, channel_id, data };
        self.push(name, &envelope);
    }

    /// `channel:participants` and `channel:agent:joined` or `…:left`.
    fn came_or_went(&mut self, record: &Record, room: &RoomId, who: &Principal, came: bool) {
        if self.flat()
            && let Some(found) = self.scene.state.room(room)
        {
            self.push("channel:participants", &shapes::participants(self.scene.state, found));
        }
        if self.envelope() {
            let name = if came { "channel:agent:joined" } else { "channel:agent:left" };
            let data = json!({"agentId": who.id(), "channelId": room.as_str()});
            self.noted(record, name, (who.id(), room.as_str()), data);
        }
    }

    /// `channel:updated`, with everything in one.
    fn room_updated(&mut self, record: &Record, room: &RoomId, changes: &RoomUpdated) {
        let Some(found) = self.scene.state.room(room) else { return };
        let fields = channel_updated(found, changes);
        let by = record.actor.id();
        let event = shapes::Superset {
            name: "channel:updated",
            id: event_id(self.scene.state, &format!("channel:updated/{}", record.offset.0)),
            at: record.at,
            about: (by, room.as_str()),
        };
        self.messages.push(event.message(&fields, &fields));
    }

    /// `agent:updated`, and for a new name or the like no envelope, as the SDK knows none.
    fn agent_updated(&mut self, record: &Record, agent: &AgentId, changes: &AgentChanges) {
        let updates = shapes::updates(changes);
        if self.flat() && !updates.is_empty() {
            self.push("agent:updated", &shapes::agent_updated(agent, &Value::Object(updates), record.at));
        }
    }

    /// `agent:updated`, unless that went out with the card, and `agent:status:change`.
    fn status_changed(&mut self, record: &Record, changed: &AgentStatusChanged) {
        let (agent, status) = (&changed.agent, changed.new);
        if self.flat() && !changed.with_card {
            let updates = json!({"status": status});
            self.push("agent:updated", &shapes::agent_updated(agent, &updates, record.at));
        }
        if self.envelope() {
            let data = json!({"agentId": agent.as_str(), "status": status, "timestamp": record.at.0});
            self.noted(record, "agent:status:change", (agent.as_str(), shapes::NOWHERE), data);
        }
    }

    /// `agent:connected` and `agent:disconnected`, which only the SDK knows.
    fn presence(&mut self, record: &Record, name: &'static str, who: &Principal) {
        if self.envelope() && who.agent().is_some() {
            let data = json!({"agentId": who.id(), "timestamp": record.at.0});
            self.noted(record, name, (who.id(), shapes::NOWHERE), data);
        }
    }

    /// An envelope about a record: `about` is its agent and its channel.
    fn noted(&mut self, record: &Record, name: &'static str, about: (&str, &str), data: Value) {
        let event_id = event_id(self.scene.state, &format!("{name}/{}", record.offset.0));
        let (agent_id, channel_id) = about;
        let timestamp = record.at.0;
        self.push(name, &Envelope { event_id, event_type: name, timestamp, agent_id, channel_id, data });
    }
}

static EMPTY: std::sync::LazyLock<Json> = std::sync::LazyLock::new(Json::empty_object);

impl<'a> Line<'a> {
    /// The SDK drops repeats by `messageId`, so a sender's own id stays; one that another dialect sent has the engine's.
    fn tool_message(
        &self,
        tool_type: &'static str,
        receiver_id: Option<&'a str>,
        context: Option<Value>,
    ) -> ToolMessage<'a> {
        let mut metadata: Map<String, Value> = self.metadata.and_then(Json::read).unwrap_or_default();
        if !metadata.get("messageId").is_some_and(Value::is_string) {
            metadata.insert("messageId".into(), self.id.into());
        }
        metadata.insert("timestamp".into(), self.at.0.into());
        let content = shapes::wrapped(self.content);
        ToolMessage { tool_type, sender_id: self.from, receiver_id, metadata, content, context }
    }
}

/// The fields of `channel:updated`.
fn channel_updated(room: &Room, changes: &RoomUpdated) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("channelId".into(), room.id.as_str().into());
    fields.insert("updates".into(), shapes::value(changes));
    fields.insert("channel".into(), shapes::channel(room));
    fields
}

/// What `type` a message has here.
fn kind(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Announcement => "announcement",
        MessageKind::Alert => "alert",
        MessageKind::Update => "update",
        MessageKind::Text
        | MessageKind::Thinking
        | MessageKind::ToolCall
        | MessageKind::ToolResult
        | MessageKind::Error
        | MessageKind::System => "message",
    }
}

/// Where the one attachment of a flat message stands.
pub(crate) fn first_attachment() -> String {
    placeholder(0)
}
