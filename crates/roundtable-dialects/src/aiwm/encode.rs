//! What AIWM clients receive: documents of messages and conversations, and an event per delivery, once per form.

use std::borrow::Cow;

use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{Principal, RoomId};
use roundtable_core::messages::{Message as Said, MessageKind, Role};
use roundtable_core::rooms::{Room, RoomStatus};
use roundtable_core::signal::SignalBody;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::iso::iso;
use crate::pages::MOST_MEMBERS;
use crate::session::{Form, Message, Messages, Scene};

/// Over what a connection came in, which decides how events look to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// A named Socket.IO namespace of the document.
    Named,
    /// Namespace `/`, where python-socketio ends up: every event under two names.
    Root,
    /// Namespace `/ws/chat`: ordinary text has the type `message`.
    Later,
    /// The plain WebSocket: `{event, data}` frames.
    Raw,
}

/// Bit of a form: the receiver came without an account (notes §9).
const ANONYMOUS: u16 = 8;

impl Door {
    const ALL: [Self; 4] = [Self::Named, Self::Root, Self::Later, Self::Raw];

    /// The form of this door.
    pub fn form(self, anonymous: bool) -> Form {
        let number = Self::ALL.iter().position(|door| *door == self).unwrap_or(0);
        Form(u16::try_from(number).unwrap_or(0) | if anonymous { ANONYMOUS } else { 0 })
    }

    fn of(form: Form) -> Self {
        Self::ALL.get(usize::from(form.0 & !ANONYMOUS)).copied().unwrap_or(Self::Named)
    }

    /// One event as it leaves through this door; on namespace `/` twice, the colon name first.
    pub fn event(self, event: ServerEvent, data: String) -> Messages {
        let (colon, underscore) = event.names();
        match self {
            Self::Named | Self::Later => smallvec::smallvec![Message::Event(colon, data)],
            Self::Root => {
                smallvec::smallvec![Message::Event(colon, data.clone()), Message::Event(underscore, data)]
            }
            Self::Raw => {
                smallvec::smallvec![Message::Text(format!("{{\"event\":\"{colon}\",\"data\":{data}}}"))]
            }
        }
    }
}

/// An event of the server (API document, "WebSocket Events (Server → Client)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerEvent {
    /// A message was said.
    New,
    /// The sender's own message is stored.
    Sent,
    /// The sender's own message is refused.
    Failed,
    /// Somebody has read a message.
    Read,
    /// Somebody came or went.
    Presence,
    /// Somebody types.
    UserTyping,
    /// An agent types.
    AgentTyping,
    /// Somebody entered a conversation.
    Joined,
    /// Somebody left a conversation.
    Left,
}

impl ServerEvent {
    /// The name, and the one that Python's decorators need (notes §7).
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::New => ("message:new", "message_new"),
            Self::Sent => ("message:sent", "message_sent"),
            Self::Failed => ("message:error", "message_error"),
            Self::Read => ("message:read", "message_read"),
            Self::Presence => ("presence:update", "presence_update"),
            Self::UserTyping => ("user:typing", "user_typing"),
            Self::AgentTyping => ("agent:typing", "agent_typing"),
            Self::Joined => ("user:joined", "user_joined"),
            Self::Left => ("user:left", "user_left"),
        }
    }
}

/// A value of ours as JSON text.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// `type`, `userId` and `agentId` of somebody; servers and nodes are nobody here.
pub fn who(principal: &Principal) -> Option<(&'static str, Option<&str>, Option<&str>)> {
    match principal {
        Principal::Agent(id) => Some(("agent", None, Some(id.as_str()))),
        Principal::User(id) => Some(("user", Some(id.as_str()), None)),
        Principal::Guest(_) | Principal::Visitor(_) => Some(("anonymous", Some(principal.id()), None)),
        Principal::Node(_) | Principal::System => None,
    }
}

/// What everybody is told about somebody: all keys of its event, null where they do not apply (notes §6).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    user_id: Option<&'a str>,
    agent_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    conversation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_typing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    timestamp: String,
}

impl<'a> Notice<'a> {
    /// Whoever comes without an account comes to talk with one agent, and is shown with it (notes §9).
    fn about(principal: &'a Principal, room: Option<&'a RoomId>, at: Time, state: &State) -> Option<Self> {
        let (kind, user_id, agent_id) = who(principal)?;
        let served = || room.and_then(|room| state.room(room)).and_then(served_by).map(Cow::Owned);
        let agent_id = agent_id.map(Cow::Borrowed);
        Some(Self {
            kind,
            user_id,
            agent_id: match principal {
                Principal::Visitor(visitor) => Some(Cow::Owned(visitor.agent().to_string())),
                Principal::Guest(_) => served(),
                _ => agent_id,
            },
            message_id: None,
            conversation_id: room.map(RoomId::as_str),
            is_typing: None,
            status: None,
            timestamp: iso(at),
        })
    }
}

/// The data of `presence:update` for somebody who is here. `None` for those who have no presence here.
pub fn presence(principal: &Principal, room: Option<&RoomId>, scene: Scene<'_>) -> Option<String> {
    let notice = Notice::about(principal, room, scene.at, scene.state)?;
    Some(json(&Notice { status: Some("online"), ..notice }))
}

/// The data of `user:joined` about who brought somebody into a room.
pub fn inviter(record: &Record, scene: Scene<'_>) -> Option<String> {
    let Event::RoomJoined(joined) = &record.event else { return None };
    let by = joined.by.as_ref()?;
    Notice::about(by, record.room.as_ref(), record.at, scene.state).map(|notice| json(&notice))
}

/// Parts of a rich message that go out unchanged.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Parts<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tool_results: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    usage: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    latency: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    attachments: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    client_message_id: Option<&'a RawValue>,
}

/// A message as a document (notes §5): ten members always, the rest if given.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    conversation_id: &'a str,
    role: &'static str,
    content: &'a str,
    participant_id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    attachments: Attachments<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_results: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message_id: Option<&'a RawValue>,
    status: &'static str,
    created_at: &'a str,
    updated_at: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Attachments<'a> {
    Given(&'a RawValue),
    None([(); 0]),
}

/// The name of a message's role.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
        Role::Tool => "tool",
    }
}

/// The name of a message's kind; kinds that the document does not know are text.
pub fn kind(kind: MessageKind, door: Door) -> &'static str {
    match kind {
        MessageKind::Text | MessageKind::Announcement | MessageKind::Alert | MessageKind::Update => {
            if door == Door::Later { "message" } else { "text" }
        }
        MessageKind::Thinking => "thinking",
        MessageKind::ToolCall => "tool_call",
        MessageKind::ToolResult => "tool_result",
        MessageKind::Error => "error",
        MessageKind::System => "system",
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Served {
    agent_id: Option<String>,
}

/// The agent that answers in a conversation: the one whose own it is, or the one it was made for.
pub fn served_by(room: &Room) -> Option<String> {
    let own = room.card.agent.as_ref().map(|agent| agent.as_str().to_owned());
    own.or_else(|| room.card.metadata.read::<Served>().and_then(|served| served.agent_id))
}

/// The role shown. What an agent says through a dialect without roles is an answer only where it serves the conversation;
/// elsewhere it is a question, since agents react to nothing else (overview §6). Messages of this dialect always have parts.
fn shown_role(said: &Said, room: Option<&Room>) -> &'static str {
    let plain = said.role == Role::Assistant && said.parts.is_none();
    match said.from.agent() {
        Some(agent) if plain && room.and_then(served_by).as_deref() != Some(agent.as_str()) => "user",
        _ => role(said.role),
    }
}

/// A message as its document.
pub fn message(said: &Said, at: Time, room: (&RoomId, Option<&Room>), door: Door) -> String {
    let parts = said.parts.as_ref().and_then(|json| json.read::<Parts<'_>>()).unwrap_or_default();
    let is_list = |raw: &&RawValue| raw.get().starts_with('[');
    let at = iso(at);
    json(&Document {
        id: said.id.as_str(),
        conversation_id: room.0.as_str(),
        role: shown_role(said, room.1),
        content: said.content.as_text(),
        participant_id: said.from.id(),
        kind: kind(said.kind, door),
        attachments: parts.attachments.filter(is_list).map_or(Attachments::None([]), Attachments::Given),
        thinking: parts.thinking,
        tool_calls: parts.tool_calls,
        tool_results: parts.tool_results,
        usage: parts.usage,
        latency: parts.latency,
        error: parts.error,
        parent_id: said.reply_to.as_deref(),
        name: parts.name,
        client_message_id: parts.client_message_id,
        status: "sent",
        created_at: &at,
        updated_at: &at,
    })
}

/// The document of the message that a record holds; `None` if it holds none.
pub fn message_of(record: &Record, state: &State, door: Door) -> Option<String> {
    let (Event::MessagePosted(said), Some(room)) = (&record.event, &record.room) else { return None };
    Some(message(said, record.at, (room, state.room(room)), door))
}

/// Whom a delivery is about, if AIWM clients in the room hear of it. They never hear of their own doings this way,
/// except of their own messages.
pub fn subject<'a>(delivery: &Delivery<'a>) -> Option<&'a Principal> {
    let Topic::Room(_) = delivery.topic else { return None };
    match delivery.item {
        Item::Record(record) => match &record.event {
            Event::RoomJoined(e) => Some(&e.member),
            Event::RoomLeft(e) => Some(&e.member),
            Event::RoomRead(e) => Some(&e.member),
            Event::PresenceConnected(e) => Some(&e.principal).filter(|_| e.first),
            Event::PresenceDisconnected(e) => Some(&e.principal).filter(|_| e.last),
            Event::MessagePosted(e) => Some(&e.from),
            _ => None,
        },
        Item::Signal(signal) => match &signal.body {
            SignalBody::Typing { who, .. } => Some(who),
            SignalBody::Message(e) => Some(&e.from),
            SignalBody::Action { .. } | SignalBody::Metric(_) => None,
        },
    }
}

/// Whether a delivery is a message.
pub fn said<'a>(delivery: &Delivery<'a>) -> Option<(&'a Said, Time)> {
    match delivery.item {
        Item::Record(record) => match &record.event {
            Event::MessagePosted(said) => Some((said, record.at)),
            _ => None,
        },
        Item::Signal(signal) => match &signal.body {
            SignalBody::Message(said) => Some((said, signal.at)),
            _ => None,
        },
    }
}

/// The messages of a delivery for everybody whose connection has this form.
pub fn encode(form: Form, delivery: &Delivery<'_>, scene: Scene<'_>) -> Messages {
    let door = Door::of(form);
    let Topic::Room(room) = delivery.topic else { return Messages::new() };
    if let Some((said, at)) = said(delivery) {
        return door.event(ServerEvent::New, message(said, at, (room, scene.state.room(room)), door));
    }
    let at = match delivery.item {
        Item::Record(record) => record.at,
        Item::Signal(signal) => signal.at,
    };
    let Some(notice) = subject(delivery).and_then(|who| Notice::about(who, Some(room), at, scene.state))
    else {
        return Messages::new();
    };
    match delivery.item {
        Item::Record(record) => match &record.event {
            Event::RoomJoined(_) => door.event(ServerEvent::Joined, json(&notice)),
            Event::RoomLeft(_) => door.event(ServerEvent::Left, json(&notice)),
            Event::RoomRead(e) => {
                let message_id = Some(e.message.as_str());
                door.event(ServerEvent::Read, json(&Notice { message_id, ..notice }))
            }
            Event::PresenceConnected(_) => {
                door.event(ServerEvent::Presence, json(&Notice { status: Some("online"), ..notice }))
            }
            Event::PresenceDisconnected(_) => {
                door.event(ServerEvent::Presence, json(&Notice { status: Some("offline"), ..notice }))
            }
            _ => Messages::new(),
        },
        Item::Signal(signal) => match &signal.body {
            SignalBody::Typing { typing, .. } => typed(door, form, notice, *typing),
            _ => Messages::new(),
        },
    }
}

/// Typing, under two events if an agent does. The widget shows any `agent:typing` as typing, so it gets no end of it (notes §9).
fn typed(door: Door, form: Form, notice: Notice<'_>, typing: bool) -> Messages {
    let agent = notice.kind == "agent";
    let data = json(&Notice { is_typing: Some(typing), ..notice });
    let mut messages = door.event(ServerEvent::UserTyping, data.clone());
    if agent && (typing || form.0 & ANONYMOUS == 0) {
        messages.extend(door.event(ServerEvent::AgentTyping, data));
    }
    messages
}

#[derive(Debug, Serialize)]
struct Participant<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    joined: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Last<'a> {
    content: &'a str,
    role: &'static str,
    created_at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'a> {
    org_id: &'a str,
    group_id: &'a str,
    user_id: &'a str,
    agent_id: &'a str,
    app_id: &'a str,
}

/// A conversation as its document (notes §4).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    title: &'a str,
    description: &'a str,
    agent_id: Option<String>,
    conversation_type: &'static str,
    status: &'static str,
    total_tokens: u64,
    total_messages: u64,
    total_cost: f64,
    participants: Vec<Participant<'a>>,
    last_message: Option<Last<'a>>,
    tags: Vec<String>,
    context_summary: &'a str,
    owner: Owner<'a>,
    created_by: &'a str,
    updated_by: &'a str,
    is_deleted: bool,
    created_at: String,
    updated_at: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Extras {
    tags: Vec<String>,
    is_deleted: bool,
}

/// What 1,000 tokens are counted as costing (notes §4).
const PRICE_PER_1000: f64 = 0.002;

/// The document of a conversation in the organisation `org`.
pub fn conversation<'a>(room: &'a Room, org: &'a str) -> Conversation<'a> {
    let extras = room.card.metadata.read::<Extras>().unwrap_or_default();
    let participants = room.members.iter().take(MOST_MEMBERS).filter_map(|(member, part)| {
        let kind = if member.agent().is_some() { "agent" } else { "user" };
        who(member)?;
        Some(Participant { kind, id: member.id(), joined: iso(part.joined_at) })
    });
    let last = room.last.as_ref();
    Conversation {
        id: room.id.as_str(),
        title: &room.card.name,
        description: &room.card.description,
        agent_id: served_by(room),
        conversation_type: "chat",
        status: match room.status {
            RoomStatus::Active => "active",
            RoomStatus::Archived => "archived",
            RoomStatus::Closed => "closed",
        },
        total_tokens: room.tokens,
        total_messages: room.messages,
        total_cost: room.tokens as f64 * PRICE_PER_1000 / 1000.0,
        participants: participants.collect(),
        last_message: last.filter(|last| !last.start.is_empty()).map(|last| Last {
            content: &last.start,
            role: role(last.role),
            created_at: iso(last.at),
        }),
        tags: extras.tags,
        context_summary: &room.summary,
        owner: Owner {
            org_id: org,
            group_id: "",
            user_id: room.owner.user().map_or("", |id| id.as_str()),
            agent_id: room.owner.agent().map_or("", |id| id.as_str()),
            app_id: "",
        },
        created_by: room.owner.id(),
        updated_by: room.owner.id(),
        is_deleted: extras.is_deleted,
        created_at: iso(room.created_at),
        updated_at: iso(room.updated_at),
    }
}

/// How many of the newest messages a summary is drawn from.
pub const SUMMARISED: u32 = 20;
/// How much of each message it quotes, in characters.
const QUOTED: usize = 120;

/// What was said in a conversation, in short, drawn from its newest messages without a model (notes §10).
pub fn summary(room: &Room, newest: &[Record]) -> String {
    let lines: Vec<String> = newest.iter().filter_map(summary_line).collect();
    match lines.is_empty() {
        true => "Nothing was said yet.".to_owned(),
        false => format!("{} messages. The newest:\n{}", room.messages, lines.join("\n")),
    }
}

/// Who said it, and its first sentence.
fn summary_line(record: &Record) -> Option<String> {
    let Event::MessagePosted(said) = &record.event else { return None };
    let text = said.content.as_text().trim();
    let end = ["\n", ". ", "! ", "? "].iter().filter_map(|end| text.find(end)).min();
    let sentence = end.and_then(|end| text.get(..=end)).unwrap_or(text).trim();
    let quoted: String = sentence.chars().take(QUOTED).collect();
    Some(format!("{}: {quoted}", said.from_name))
}
