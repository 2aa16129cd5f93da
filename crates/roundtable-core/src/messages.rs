//! Messages: what members say to a room or to one another.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision, Outcome};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{AgentId, ConnectionId, MessageId, Principal, RoomId};
use crate::json::Json;
use crate::rooms::{self, Durability, RoomStatus};
use crate::signal::SignalBody;
use crate::state::State;
use crate::time::Offset;
use crate::{access, limits, repeats};

/// Whose part a message plays in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Somebody who asks.
    #[default]
    User,
    /// An agent that answers.
    Assistant,
    /// Instructions and notices.
    System,
    /// What a tool gave.
    Tool,
}

/// What kind of message it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Ordinary text.
    #[default]
    Text,
    /// An agent's reasoning.
    Thinking,
    /// An agent asks for tools.
    ToolCall,
    /// What the tools gave.
    ToolResult,
    /// Something went wrong.
    Error,
    /// A notice.
    System,
    /// To all, of general interest.
    Announcement,
    /// To all, with urgency.
    Alert,
    /// To all, about a change.
    Update,
}

/// What is said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Words.
    Text(String),
    /// A JSON value that clients understand (an MXP object, for example).
    Json(Json),
    /// Bytes, as base64 text.
    Base64(String),
}

impl Content {
    /// The content as text, whatever it is.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Base64(text) => text,
            Self::Json(json) => json.as_str(),
        }
    }
}

/// Event: something was said in a room. The sender's name stands beside its id, since names change and history does not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its id: 24 hex digits.
    pub id: MessageId,
    /// Who said it.
    pub from: Principal,
    /// How the sender was called then.
    pub from_name: String,
    /// Whose part it plays.
    #[serde(default)]
    pub role: Role,
    /// What kind it is.
    #[serde(default)]
    pub kind: MessageKind,
    /// What is said.
    pub content: Content,
    /// Named extra parts of a rich message, unchanged from the sender (`thinking`, `toolCalls`, `usage`, …): an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Json>,
    /// An object of the clients' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// The message of the same room that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Where the sender sat: `web`, `mobile`, … as its dialect names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Tokens it cost, if the sender says so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
    /// The connection it was said on, so that a client that comes back is spared its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ConnectionId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Event: a message was taken back. It is shown no more; the log keeps that it was said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Which.
    pub message: MessageId,
    /// Where it is in the log.
    pub offset: Offset,
}

/// Command: take back a message of a room.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Delete {
    /// Where it was said.
    pub room: RoomId,
    /// Which.
    pub message: MessageId,
    /// Where it is in the log.
    pub offset: Offset,
    /// Who said it, as the log tells.
    pub author: Principal,
}

/// Event: something was said to one principal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DirectMessage {
    /// Its id: 24 hex digits.
    pub id: MessageId,
    /// Who said it.
    pub from: Principal,
    /// How the sender was called then.
    pub from_name: String,
    /// To whom.
    pub to: Principal,
    /// What is said.
    pub content: Content,
    /// An object of the clients' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
}

/// Event: direct messages reached a connection of their addressee.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Delivered {
    /// The addressee.
    pub to: Principal,
    /// All up to here.
    pub upto: Offset,
}

/// Event: direct messages waited too long for their addressee.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Expired {
    /// The addressee.
    pub to: Principal,
    /// All that still waited, up to here.
    pub upto: Offset,
}

/// Command: say something in a room. Idempotent with a client id.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Post {
    /// Where.
    pub room: RoomId,
    /// Who speaks: the actor, or an agent that acts through it.
    pub from: Principal,
    /// Whose part it plays.
    pub role: Role,
    /// What kind it is.
    pub kind: MessageKind,
    /// What is said; text must not be empty.
    #[serde(serialize_with = "repeats::sorted_content")]
    pub content: Content,
    /// Named extra parts.
    #[serde(serialize_with = "repeats::sorted")]
    pub parts: Option<Json>,
    /// An object of the clients' own.
    #[serde(serialize_with = "repeats::sorted")]
    pub metadata: Option<Json>,
    /// The message this answers.
    pub reply_to: Option<String>,
    /// Where the sender sits; no part of what is asked for.
    #[serde(skip)]
    pub platform: Option<String>,
    /// Tokens it cost.
    pub tokens: u64,
}

impl Post {
    /// Plain words of the part that `from` usually plays: agents answer, everybody else asks.
    pub fn text(room: RoomId, from: Principal, text: impl Into<String>) -> Self {
        let role = if from.agent().is_some() { Role::Assistant } else { Role::User };
        Self {
            room,
            from,
            role,
            kind: MessageKind::Text,
            content: Content::Text(text.into()),
            parts: None,
            metadata: None,
            reply_to: None,
            platform: None,
            tokens: 0,
        }
    }
}

/// Command: say something to one agent. Idempotent with a client id.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Direct {
    /// To whom.
    pub to: AgentId,
    /// Who speaks.
    pub from: Principal,
    /// What is said; text must not be empty.
    #[serde(serialize_with = "repeats::sorted_content")]
    pub content: Content,
    /// An object of the clients' own.
    #[serde(serialize_with = "repeats::sorted")]
    pub metadata: Option<Json>,
}

fn check_content(content: &Content) -> Result<(), Error> {
    let text = content.as_text();
    if text.is_empty() {
        return Err(Error::invalid("content", "is required"));
    }
    if text.len() > limits::MAX_CONTENT_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, "content is larger than 1 MiB").field("content"));
    }
    Ok(())
}

pub(crate) fn post(state: &State, ctx: &Context, command: &Post) -> Result<Decision, Error> {
    access::may_act_as(state, &ctx.actor, &command.from)?;
    let room = rooms::as_member(state, &command.room, &command.from)?;
    if room.status != RoomStatus::Active {
        return Err(Error::new(ErrorKind::RoomClosed, format!("room {} is closed", command.room)));
    }
    check_content(&command.content)?;
    let message = Message {
        id: MessageId::fresh(ctx.at, ctx.random),
        from: command.from.clone(),
        from_name: state.name_of(&command.from),
        role: command.role,
        kind: command.kind,
        content: command.content.clone(),
        parts: command.parts.clone(),
        metadata: command.metadata.clone(),
        reply_to: command.reply_to.clone(),
        platform: command.platform.clone(),
        tokens: command.tokens,
        via: ctx.connection,
    };
    let mut decision = Decision::default();
    if room.card.durability == Durability::Ephemeral {
        decision.signal(Some(&command.room), SignalBody::Message(Box::new(message)));
    } else {
        decision.in_room(&command.room, Event::MessagePosted(message));
    }
    Ok(decision)
}

pub(crate) fn delete(state: &State, ctx: &Context, command: &Delete) -> Result<Decision, Error> {
    let room = rooms::visible(state, &command.room, &ctx.actor)?;
    if command.offset > state.head || room.deleted.contains(&command.offset) {
        return Err(Error::new(
            ErrorKind::MessageNotFound,
            format!("there is no message {}", command.message),
        ));
    }
    if !access::may_delete_message(state, &ctx.actor, (&command.author, command.offset)) {
        return Err(Error::forbidden(format!("{} may not delete this message", ctx.actor.id())));
    }
    let mut decision = Decision::default();
    let deleted = Deleted { message: command.message.clone(), offset: command.offset };
    decision.in_room(&command.room, Event::MessageDeleted(deleted));
    decision.outcome(Outcome::Done);
    Ok(decision)
}

pub(crate) fn direct(state: &State, ctx: &Context, command: &Direct) -> Result<Decision, Error> {
    access::may_act_as(state, &ctx.actor, &command.from)?;
    if !matches!(command.from, Principal::User(_) | Principal::Agent(_) | Principal::System) {
        return Err(Error::forbidden("only users and agents send direct messages"));
    }
    let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {}", command.to));
    state.agent(&command.to).ok_or_else(unknown)?;
    check_content(&command.content)?;
    let to = Principal::Agent(command.to.clone());
    let waiting = state.waiting(&to);
    let oldest_counts = waiting.front().is_some_and(|(_, t)| ctx.now.since(*t) <= limits::WAITING_DIRECT_MS);
    if waiting.len() >= limits::MAX_WAITING_DIRECT && oldest_counts {
        return Err(Error::new(ErrorKind::Conflict, format!("{} has 1,000 messages waiting", command.to)));
    }
    let mut decision = Decision::default();
    decision.event(Event::MessageDirect(DirectMessage {
        id: MessageId::fresh(ctx.at, ctx.random),
        from: command.from.clone(),
        from_name: state.name_of(&command.from),
        to,
        content: command.content.clone(),
        metadata: command.metadata.clone(),
    }));
    Ok(decision)
}

/// Direct messages whose addressee stayed away for a week.
pub(crate) fn expire(state: &State, ctx: &Context, decision: &mut Decision) {
    for (to, upto) in state.overdue(ctx.now) {
        decision.event(Event::MessageExpired(Expired { to, upto }));
    }
}

pub(crate) fn delivered(state: &State, ctx: &Context, upto: Offset) -> Decision {
    let mut decision = Decision::default();
    if state.waiting(&ctx.actor).front().is_some_and(|(offset, _)| *offset <= upto) {
        decision.event(Event::MessageDelivered(Delivered { to: ctx.actor.clone(), upto }));
    }
    decision
}
