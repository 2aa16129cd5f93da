//! What MegaBot clients receive: deliveries and answers as envelopes (MegaBot notes §2, §4, §6, §8).

use std::io::Write;

use bytes::Bytes;
use roundtable_core::alerts::{AlertCleared, AlertRaised, Level};
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::messages::{Message as Said, MessageKind, Role};
use roundtable_core::rooms::Room;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde::Serialize;
use smallvec::smallvec;

use crate::pages::here;
use crate::session::{Form, Message, Messages, Scene};

/// Frames as text.
pub const TEXT: Form = Form(0);
/// Frames of 1 KiB and more as gzip in binary frames, for clients that asked for it (MegaBot notes §6).
pub const GZIP: Form = Form(1);
/// From this size on gzip is worth its header, in bytes.
const GZIP_FROM: usize = 1_024;
/// Largest frame in bytes: `websockets` closes above it (protocol README §3).
const MAX_FRAME: usize = 1 << 20;
/// Largest piece of a text that does not fit into one frame, in bytes of JSON.
const PIECE: usize = 256 << 10;
/// The type of what is done together.
const ACTION: &str = "collaborative_action";
/// Where agents sit, as far as people are concerned, and people whose dialect does not tell.
const OWN_PLATFORM: &str = "megabot";

#[derive(Serialize)]
struct Envelope<'a, P> {
    id: &'a str,
    r#type: &'a str,
    payload: P,
    timestamp: i64,
    metadata: Metadata<'a>,
}

/// Whom a frame is about: the sender of what others said, the receiver of everything else.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Metadata<'a> {
    /// The user, agent or guest.
    pub user_id: Option<&'a str>,
    /// The session.
    pub session_id: Option<&'a str>,
    /// Where the user sits.
    pub platform: Option<&'a str>,
}

/// One frame as JSON.
pub fn frame(id: &str, kind: &str, payload: impl Serialize, at: Time, metadata: Metadata<'_>) -> String {
    let envelope = Envelope { id, r#type: kind, payload, timestamp: at.as_seconds(), metadata };
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// A frame in the form a connection asked for.
pub fn shaped(form: Form, text: String) -> Message {
    if form != GZIP || text.len() < GZIP_FROM {
        return Message::Text(text);
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(3));
    match gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()) {
        Ok(packed) => Message::Binary(Bytes::from(packed)),
        Err(_) => Message::Text(text),
    }
}

/// The frames that everybody with this form gets of a delivery.
pub fn encode(form: Form, delivery: &Delivery<'_>, scene: Scene<'_>) -> Messages {
    let texts = match (delivery.item, delivery.topic) {
        (Item::Record(record), Topic::Room(room)) => of_room(record, room, scene),
        (Item::Record(record), Topic::Feed(_)) => of_feed(record, scene),
        (Item::Signal(signal), Topic::Room(room)) => match &signal.body {
            roundtable_core::signal::SignalBody::Message(said) => {
                chat(said, &About { room, at: signal.at, request: None })
            }
            roundtable_core::signal::SignalBody::Action { id, who, action, data } => {
                let doing = Doing { session_id: room, action, data: data.as_ref(), user_id: who.id() };
                let meta = about(who, room, scene.state);
                smallvec![frame(&format!("msg_{id}"), ACTION, doing, signal.at, meta)]
            }
            _ => Texts::new(),
        },
        _ => Texts::new(),
    };
    texts.into_iter().map(|text| shaped(form, text)).collect()
}

/// The frames of one message for somebody who asked for it: with the id of the request that it answers.
pub fn answer(form: Form, said: &Said, room: &RoomId, at: Time, request: Option<&str>) -> Messages {
    let texts = chat(said, &About { room, at, request });
    texts.into_iter().map(|text| shaped(form, text)).collect()
}

type Texts = smallvec::SmallVec<[String; 1]>;

/// Whether people see a message: an agent's reasoning and its dealings with tools are not for them.
pub fn shown(said: &Said) -> bool {
    match said.kind {
        MessageKind::Thinking | MessageKind::ToolCall | MessageKind::ToolResult => false,
        MessageKind::Text
        | MessageKind::Error
        | MessageKind::System
        | MessageKind::Announcement
        | MessageKind::Alert
        | MessageKind::Update => true,
    }
}

fn of_room(record: &Record, room: &RoomId, scene: Scene<'_>) -> Texts {
    let named = |kind: &str, who: &Principal, platform: Option<&String>| {
        let platform = sits(who, platform.map(String::as_str));
        let meta =
            Metadata { user_id: Some(who.id()), session_id: Some(room.as_str()), platform: Some(platform) };
        let person = Person { session_id: Some(room), user_id: who.id(), platform };
        smallvec![frame(&record_id(record, scene), kind, person, record.at, meta)]
    };
    match &record.event {
        Event::MessagePosted(said) if shown(said) => {
            let request = record.client.as_ref().map(|write| write.id.as_str());
            chat(said, &About { room, at: record.at, request })
        }
        Event::RoomActed(e) => {
            let doing =
                Doing { session_id: room, action: &e.action, data: e.data.as_ref(), user_id: e.who.id() };
            let meta = about(&e.who, room, scene.state);
            smallvec![frame(&record_id(record, scene), ACTION, doing, record.at, meta)]
        }
        Event::RoomJoined(e) if !e.at.away => named("participant_joined", &e.member, e.at.platform.as_ref()),
        Event::PresenceConnected(e) if e.first => {
            named("participant_joined", &e.principal, e.platform.as_ref())
        }
        Event::RoomLeft(e) if !e.at.away => named("participant_left", &e.member, e.at.platform.as_ref()),
        Event::PresenceDisconnected(e) if e.last => {
            named("participant_left", &e.principal, e.platform.as_ref())
        }
        _ => Texts::new(),
    }
}

fn of_feed(record: &Record, scene: Scene<'_>) -> Texts {
    let notice = match &record.event {
        Event::AlertRaised(e) => Notice::raised(e),
        Event::AlertCleared(e) => Notice::cleared(e),
        _ => return Texts::new(),
    };
    let nobody = Metadata { user_id: None, session_id: None, platform: None };
    smallvec![frame(&record_id(record, scene), "notification", notice, record.at, nobody)]
}

/// The id of a frame that tells of a record: the same whenever it is sent again.
fn record_id(record: &Record, scene: Scene<'_>) -> String {
    format!("msg_{:08x}{:016x}", scene.epoch, record.offset.0)
}

/// Where and when something was said, and what it answers.
struct About<'a> {
    room: &'a RoomId,
    at: Time,
    request: Option<&'a str>,
}

#[derive(Serialize)]
struct ChatReceive<'a> {
    content: &'a str,
    sender: &'static str,
    platform: &'a str,
    timestamp: i64,
    message_id: &'a str,
    session_id: &'a RoomId,
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<Json>,
    #[serde(flatten)]
    truncated: Option<Truncated>,
}

/// Something had to be left out of a frame (protocol README §3).
#[derive(Serialize)]
struct Truncated {
    truncated: bool,
    r#ref: String,
}

impl Truncated {
    fn of(said: &Said) -> Self {
        Self { truncated: true, r#ref: format!("{WHOLE_AT}{}", said.id) }
    }
}

#[derive(Serialize)]
struct ChatStream<'a> {
    id: &'a str,
    chunk: &'a str,
    is_complete: bool,
    sequence: usize,
    session_id: &'a RoomId,
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    #[serde(flatten)]
    truncated: Option<&'a Truncated>,
}

#[derive(Serialize)]
struct Doing<'a> {
    session_id: &'a RoomId,
    action: &'a str,
    data: Option<&'a Json>,
    user_id: &'a str,
}

/// Somebody who takes part in a session.
#[derive(Serialize, Debug)]
pub struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a RoomId>,
    user_id: &'a str,
    platform: &'a str,
}

/// The payload of a `notification`.
#[derive(Serialize, Debug)]
pub struct Notice<'a> {
    r#type: &'static str,
    title: &'a str,
    message: &'a str,
    action_url: Option<&'a str>,
    dismissible: bool,
}

impl<'a> Notice<'a> {
    /// Something a person should know, though nothing is broken.
    pub fn warning(title: &'a str, message: &'a str) -> Self {
        Self { r#type: "warning", title, message, action_url: None, dismissible: true }
    }

    fn raised(alert: &'a AlertRaised) -> Self {
        let kind = match alert.level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Critical => "error",
        };
        Self { r#type: kind, ..Self::warning(&alert.title, &alert.message) }
    }

    fn cleared(alert: &'a AlertCleared) -> Self {
        Self { r#type: "success", ..Self::warning(&alert.source, "The alert is over") }
    }
}

/// Who of a room's members is here now.
pub fn participants<'a>(room: &'a Room, state: &'a State) -> Vec<Person<'a>> {
    here(room, state)
        .map(|who| Person { session_id: None, user_id: who.id(), platform: platform_of(who, state) })
        .collect()
}

/// Where somebody sits: as its dialect told, else here, like agents and the server itself.
fn sits<'a>(who: &Principal, told: Option<&'a str>) -> &'a str {
    let person = matches!(who, Principal::User(_) | Principal::Guest(_) | Principal::Visitor(_));
    told.filter(|_| person).unwrap_or(OWN_PLATFORM)
}

fn platform_of<'a>(who: &Principal, state: &'a State) -> &'a str {
    sits(who, state.presence(who).and_then(|presence| presence.platform.as_deref()))
}

fn about<'a>(who: &'a Principal, room: &'a RoomId, state: &'a State) -> Metadata<'a> {
    Metadata {
        user_id: Some(who.id()),
        session_id: Some(room.as_str()),
        platform: Some(platform_of(who, state)),
    }
}

/// Where the whole of a message is that had to be cut.
const WHOLE_AT: &str = "/api/messages/";

/// The whole message that a record holds, as it would be in a `chat_receive`; `None` if it holds none that people see.
pub fn whole(record: &Record) -> Option<serde_json::Value> {
    let (Event::MessagePosted(said), Some(room)) = (&record.event, &record.room) else { return None };
    let request = record.client.as_ref().map(|write| write.id.as_str());
    let about = About { room, at: record.at, request };
    shown(said).then(|| serde_json::to_value(receive(said, &about)).unwrap_or_default())
}

fn receive<'a>(said: &'a Said, about: &About<'a>) -> ChatReceive<'a> {
    let platform = sits(&said.from, said.platform.as_deref());
    let sender = match said.from {
        Principal::System => "system",
        _ if said.role == Role::System => "system",
        Principal::Agent(_) | Principal::Node(_) => "assistant",
        Principal::User(_) | Principal::Guest(_) | Principal::Visitor(_) => "user",
    };
    let (user_id, agent_id) = match &said.from {
        Principal::Agent(id) => (None, Some(id.as_str())),
        Principal::User(_) | Principal::Guest(_) | Principal::Visitor(_) | Principal::Node(_) => {
            (Some(said.from.id()), None)
        }
        Principal::System => (None, None),
    };
    ChatReceive {
        content: said.content.as_text(),
        sender,
        platform,
        timestamp: about.at.as_seconds(),
        message_id: said.id.as_str(),
        session_id: about.room,
        request_id: about.request,
        user_id,
        agent_id,
        attachments: attachments(said),
        truncated: None,
    }
}

/// One frame, or what does not fit into one: attachments are left out first, then the text comes in pieces.
fn chat(said: &Said, about: &About<'_>) -> Texts {
    let mut receive = receive(said, about);
    let meta = Metadata {
        user_id: Some(said.from.id()),
        session_id: Some(about.room.as_str()),
        platform: Some(receive.platform),
    };
    let id = format!("msg_{}", said.id);
    let all = frame(&id, "chat_receive", &receive, about.at, meta);
    if all.len() <= MAX_FRAME {
        return smallvec![all];
    }
    if receive.attachments.take().is_some() {
        receive.truncated = Some(Truncated::of(said));
        let cut = frame(&id, "chat_receive", &receive, about.at, meta);
        if cut.len() <= MAX_FRAME {
            return smallvec![cut];
        }
    }
    let pieces = pieces(receive.content);
    let last = pieces.len();
    let stream = |(sequence, chunk): (usize, &str)| {
        let is_complete = sequence == last;
        let payload = ChatStream {
            id: said.id.as_str(),
            chunk,
            is_complete,
            sequence,
            session_id: about.room,
            request_id: about.request,
            user_id: receive.user_id,
            agent_id: receive.agent_id,
            truncated: receive.truncated.as_ref().filter(|_| is_complete),
        };
        frame(&format!("{id}_{sequence}"), "chat_stream", payload, about.at, meta)
    };
    (1..).zip(pieces).map(stream).collect()
}

/// The attachments that came with a message, if they are an array.
fn attachments(said: &Said) -> Option<Json> {
    #[derive(serde::Deserialize)]
    struct Parts {
        attachments: Option<Json>,
    }
    said.parts.as_ref()?.read::<Parts>()?.attachments.filter(|json| json.as_str().starts_with('['))
}

/// A text in pieces of at most [`PIECE`] bytes of JSON each, never cut within a character.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let mut size = 0;
        let fits = text.char_indices().find(|(_, c)| {
            size += json_length(*c);
            size > PIECE
        });
        let (piece, rest) = text.split_at(fits.map_or(text.len(), |(at, _)| at));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

/// How many bytes a character takes within a JSON string.
fn json_length(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::{About, GZIP, Json, MAX_FRAME, MessageKind, PIECE, Principal, Role, RoomId, Said};
    use super::{TEXT, Time, chat, pieces, shaped};
    use crate::session::Message;
    use roundtable_core::ids::MessageId;
    use roundtable_core::messages::Content;
    use std::io::Read;

    #[test]
    fn pieces_join_to_the_text_and_each_fits() {
        let text: String = (0..400_000_u32).filter_map(|n| char::from_u32(n % 0x2500)).collect();
        let cut = pieces(&text);
        assert!(cut.len() > 3);
        assert_eq!(cut.concat(), text);
        for piece in cut {
            let json = serde_json::to_string(piece).unwrap();
            assert!(json.len() <= PIECE + 2 && json.len() > PIECE / 2 || text.ends_with(piece));
        }
    }

    fn said(content: &str, attachments: usize) -> Said {
        let list = vec!["x".repeat(1 << 10); attachments];
        Said {
            id: MessageId::new("m1").unwrap(),
            from: Principal::System,
            from_name: String::new(),
            role: Role::User,
            kind: MessageKind::Text,
            content: Content::Text(content.into()),
            parts: Some(Json::of(&serde_json::json!({ "attachments": list }))),
            metadata: None,
            reply_to: None,
            platform: None,
            tokens: 0,
            via: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_where_the_whole_is() {
        let room = RoomId::new("r").unwrap();
        let frames = |said: &Said| -> Vec<serde_json::Value> {
            let about = About { room: &room, at: Time(0), request: None };
            let texts = chat(said, &about);
            assert!(texts.iter().all(|text| text.len() <= MAX_FRAME));
            texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
        };
        let fits = frames(&said("short", 900));
        assert_eq!(fits[0]["payload"]["attachments"].as_array().unwrap().len(), 900);
        assert!(fits[0]["payload"].get("truncated").is_none());
        let cut = frames(&said("short", 1_100));
        assert_eq!((cut.len(), &cut[0]["type"]), (1, &"chat_receive".into()));
        assert_eq!(cut[0]["payload"]["truncated"], true);
        assert_eq!(cut[0]["payload"]["ref"], "/api/messages/m1");
        let pieces = frames(&said(&"long".repeat(MAX_FRAME / 4), 1_100));
        let marks: Vec<bool> = pieces.iter().map(|f| f["payload"].get("ref").is_some()).collect();
        assert_eq!(marks, [false, false, false, true], "the last piece says it");
        let text: String = pieces.iter().map(|f| f["payload"]["chunk"].as_str().unwrap()).collect();
        assert_eq!(text.len(), MAX_FRAME);
    }

    #[test]
    fn only_long_frames_are_packed_and_only_if_asked() {
        let long = "x".repeat(1_024);
        assert_eq!(shaped(GZIP, "x".repeat(1_023)), Message::Text("x".repeat(1_023)));
        assert_eq!(shaped(TEXT, long.clone()), Message::Text(long.clone()));
        let Message::Binary(packed) = shaped(GZIP, long.clone()) else { panic!("not packed") };
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_ref()).read_to_string(&mut text).unwrap();
        assert_eq!(text, long);
    }
}
