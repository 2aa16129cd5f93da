//! What MegaBot clients send: envelopes, their checks, and the requests in them (MegaBot notes §2, §4, §5, §6).

use std::io::Read;

use roundtable_core::ids::{AgentId, RoomId};
use roundtable_core::json::{Json, deeper_than};
use serde_json::value::RawValue;

use super::errors::Fault;
use crate::members::Members;

/// Longest chat text in UTF-16 code units, as JavaScript's `length` counts.
const MAX_CONTENT_UNITS: usize = 10_000;
/// Most attachments of one chat message.
const MAX_ATTACHMENTS: usize = 10;
/// Longest platform name in characters.
pub const MAX_PLATFORM_CHARS: usize = 64;
/// Largest `data` of an action in bytes: with the envelope around it, receivers must still take it.
const MAX_DATA_BYTES: usize = (1 << 20) - (8 << 10);
/// Deepest nesting of JSON that is taken in; deeper texts would make receivers fail.
const MAX_DEPTH: usize = 128;

/// One message of a client.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What the client calls it; only `ping` may come without.
    pub id: Option<String>,
    /// What it wants.
    pub request: Request<'a>,
}

/// What a message wants.
#[derive(Debug)]
pub enum Request<'a> {
    /// A sign of life.
    Ping,
    /// Say something.
    Chat(Chat),
    /// Enter a session.
    Join(RoomId),
    /// Leave a session.
    Leave(RoomId),
    /// Do something together.
    Act(Act),
    /// Several messages in one.
    Batch(Vec<&'a RawValue>),
}

/// Something to be said.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    /// The words.
    pub content: String,
    /// Where the client sits, if it says so here.
    pub platform: Option<String>,
    /// A JSON array, if it is not empty.
    pub attachments: Option<Json>,
    /// Where to say it, if not in the connection's own session.
    pub session: Option<RoomId>,
    /// Where to say it if the connection is there, and nothing else is said about it.
    pub hint: Option<RoomId>,
    /// Who shall answer.
    pub agent: Option<AgentId>,
    /// The sender wants to know when it is on the disk.
    pub ack: bool,
}

/// Something done together.
#[derive(Clone, PartialEq, Debug)]
pub struct Act {
    /// Where.
    pub session: RoomId,
    /// What, in the clients' words.
    pub action: String,
    /// Any JSON.
    pub data: Option<Json>,
}

/// A message that is refused: the id it gave, if it gave one, and why.
pub type Refused = (Option<String>, Fault);

/// Reads a frame or an item of a batch.
pub fn read(text: &str) -> Result<Incoming<'_>, Refused> {
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    let no_object = || (None, if is_json() { Fault::incomplete() } else { Fault::not_json() });
    let fields = Members::of(text).ok_or_else(no_object)?;
    let id = fields.string("id").filter(|id| !id.is_empty());
    if deeper_than(text, MAX_DEPTH) {
        return Err((id, Fault::validation("Message nested too deeply")));
    }
    let kind = fields.string("type").filter(|kind| !kind.is_empty());
    if kind.as_deref() == Some("ping") {
        return Ok(Incoming { id, request: Request::Ping });
    }
    let payload = fields.get("payload").and_then(|raw| Members::of(raw.get()));
    let (Some(id), Some(kind), Some(payload)) = (id.clone(), kind, payload) else {
        return Err((id, Fault::incomplete()));
    };
    let metadata = match fields.given("metadata") {
        None => Members::default(),
        Some(raw) => Members::of(raw.get()).ok_or_else(|| (Some(id.clone()), Fault::field("metadata")))?,
    };
    match request(&kind, &payload, &metadata) {
        Ok(request) => Ok(Incoming { id: Some(id), request }),
        Err(fault) => Err((Some(id), fault)),
    }
}

fn request<'a>(kind: &str, payload: &Members<'a>, metadata: &Members<'a>) -> Result<Request<'a>, Fault> {
    match kind {
        "chat_send" => chat(payload, metadata).map(Request::Chat),
        "session_join" => session(payload).map(Request::Join),
        "session_leave" => session(payload).map(Request::Leave),
        "collaborative_action" => act(payload).map(Request::Act),
        "batch" => {
            let items = payload.get("messages").and_then(|raw| serde_json::from_str(raw.get()).ok());
            items.map(Request::Batch).ok_or_else(|| Fault::field("messages"))
        }
        other => Err(Fault::unknown_type(other)),
    }
}

fn chat(payload: &Members<'_>, metadata: &Members<'_>) -> Result<Chat, Fault> {
    let content = payload.string("content").filter(|text| !text.is_empty());
    let content = content.ok_or_else(|| Fault::validation("Invalid chat message content"))?;
    if content.encode_utf16().count() > MAX_CONTENT_UNITS {
        return Err(Fault::validation("Message content too long"));
    }
    let platform = optional(payload, "platform")?;
    if platform.as_ref().is_some_and(|p| p.chars().count() > MAX_PLATFORM_CHARS) {
        return Err(Fault::field("platform"));
    }
    if payload.given("stream").is_some_and(|raw| !matches!(raw.get(), "true" | "false")) {
        return Err(Fault::field("stream"));
    }
    let agent =
        optional(payload, "agent_id")?.map(|id| AgentId::new(&id).map_err(|_| Fault::field("agent_id")));
    let session = optional(payload, "session_id")?;
    let session = session.map(|id| RoomId::new(&id).map_err(|_| Fault::field("session_id")));
    let hint = optional(metadata, "session_id")?.and_then(|id| RoomId::new(&id).ok());
    Ok(Chat {
        content,
        platform: platform.filter(|p| !p.is_empty()),
        attachments: attachments(payload)?,
        session: session.transpose()?,
        hint,
        agent: agent.transpose()?,
        ack: metadata.given("ack").is_some_and(|raw| raw.get() == "true"),
    })
}

fn attachments(payload: &Members<'_>) -> Result<Option<Json>, Fault> {
    let Some(raw) = payload.given("attachments") else { return Ok(None) };
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| Fault::field("attachments"))?;
    let fine = items.iter().all(|item| item.get().starts_with(['"', '{']));
    if !fine || items.len() > MAX_ATTACHMENTS {
        return Err(Fault::field("attachments"));
    }
    Ok((!items.is_empty()).then(|| Json::from(raw)))
}

fn session(payload: &Members<'_>) -> Result<RoomId, Fault> {
    let id = payload.string("session_id");
    id.and_then(|id| RoomId::new(&id).ok()).ok_or_else(|| Fault::field("session_id"))
}

fn act(payload: &Members<'_>) -> Result<Act, Fault> {
    let session = session(payload)?;
    let action = payload.string("action").filter(|action| !action.is_empty());
    let action = action.ok_or_else(|| Fault::field("action"))?;
    let data = payload.get("data");
    if data.is_some_and(|raw| raw.get().len() > MAX_DATA_BYTES) {
        return Err(Fault::field("data"));
    }
    Ok(Act { session, action, data: data.map(Json::from) })
}

/// A string that may be left out or be null. Fails when it is something else.
fn optional(fields: &Members<'_>, name: &'static str) -> Result<Option<String>, Fault> {
    let Some(raw) = fields.given(name) else { return Ok(None) };
    string(raw).map(Some).ok_or_else(|| Fault::field(name))
}

fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// Unpacks a binary frame that begins like gzip. Fails with what the client is told; a text above `most` bytes is never
/// unpacked whole.
pub fn unpack(bytes: &[u8], most: usize) -> Result<String, Fault> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Fault::not_json());
    }
    let mut text = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut gzip = flate2::bufread::GzDecoder::new(bytes);
    gzip.by_ref().take(limit).read_to_end(&mut text).map_err(|_| Fault::not_json())?;
    if text.len() > most {
        return Err(Fault::too_large());
    }
    // A frame is one message: what stands behind it would be lost without a word.
    if !gzip.into_inner().is_empty() {
        return Err(Fault::not_json());
    }
    String::from_utf8(text).map_err(|_| Fault::not_json())
}

#[cfg(test)]
mod tests {
    use super::{Request, deeper_than, read, unpack};
    use std::io::Write;

    fn refused(text: &str) -> (Option<String>, String) {
        let (id, fault) = read(text).unwrap_err();
        (id, fault.message.into_owned())
    }

    #[test]
    fn an_envelope_needs_id_type_and_an_object() {
        let missing = "Missing required message fields";
        for text in [
            r#"{"type":"chat_send","payload":{}}"#,
            r#"{"id":"","type":"chat_send","payload":{}}"#,
            r#"{"id":7,"type":"chat_send","payload":{}}"#,
            r"[]",
            r#""ping""#,
            "null",
        ] {
            assert_eq!(refused(text), (None, missing.into()), "{text}");
        }
        for payload in ["null", "0", "\"\"", "false", "[]", "\"x\"", "[{}]"] {
            let text = format!(r#"{{"id":"a","type":"chat_send","payload":{payload}}}"#);
            assert_eq!(refused(&text), (Some("a".into()), missing.into()), "{text}");
        }
        assert_eq!(refused(r#"{"id":"a","payload":{}}"#), (Some("a".into()), missing.into()));
        assert_eq!(refused("{").1, "Invalid JSON");
        assert_eq!(refused(r#"{"id":"a","type":"dance","payload":{}}"#).1, "Unknown message type: dance");
    }

    #[test]
    fn a_ping_needs_nothing_else() {
        let ping = read(r#"{"type":"ping"}"#).unwrap();
        assert!(matches!(ping.request, Request::Ping) && ping.id.is_none());
    }

    fn chat(payload: &str) -> Result<super::Chat, String> {
        let text = format!(r#"{{"id":"a","type":"chat_send","payload":{payload}}}"#);
        match read(&text) {
            Ok(super::Incoming { request: Request::Chat(chat), .. }) => Ok(chat),
            Ok(other) => panic!("{other:?}"),
            Err((_, fault)) => Err(fault.message.into_owned()),
        }
    }

    #[test]
    fn chat_content_is_counted_as_javascript_does() {
        for content in ["5", "null", "\"\"", "[]", r#""\ud800""#] {
            let told = chat(&format!(r#"{{"content":{content}}}"#));
            assert_eq!(told, Err("Invalid chat message content".into()), "{content}");
        }
        assert_eq!(chat("{}"), Err("Invalid chat message content".into()));
        let clefs = "𝄞".repeat(5_000);
        assert_eq!(chat(&format!(r#"{{"content":"{clefs}"}}"#)).unwrap().content, clefs);
        let told = chat(&format!(r#"{{"content":"{clefs}x"}}"#));
        assert_eq!(told, Err("Message content too long".into()));
    }

    #[test]
    fn other_chat_fields_are_checked_by_name() {
        for (field, value) in [
            ("platform", "1".to_owned()),
            ("platform", format!("\"{}\"", "p".repeat(65))),
            ("attachments", "{}".into()),
            ("attachments", "[1]".into()),
            ("attachments", format!("[{}\"x\"]", "{},".repeat(10))),
            ("session_id", "\"a b\"".into()),
            ("session_id", "4".into()),
            ("stream", "\"yes\"".into()),
            ("agent_id", "{}".into()),
        ] {
            let told = chat(&format!(r#"{{"content":"x","{field}":{value}}}"#));
            assert_eq!(told, Err(format!("Invalid payload: {field}")), "{value}");
        }
        let chat = chat(r#"{"content":"x","attachments":["a",{"b":1}],"stream":null,"more":1}"#).unwrap();
        assert_eq!(chat.attachments.unwrap().as_str(), r#"["a",{"b":1}]"#);
    }

    #[test]
    fn metadata_may_name_the_session_and_the_payload_goes_first() {
        let text =
            r#"{"id":"a","type":"chat_send","payload":{"content":"x"PAYLOAD},"metadata":{"session_id":"m"}}"#;
        for (payload, session) in [("", None), (r#","session_id":"p""#, Some("p"))] {
            let text = text.replace("PAYLOAD", payload);
            let Request::Chat(chat) = read(&text).unwrap().request else { panic!("{text}") };
            let told =
                (chat.session.as_ref().map(|id| id.as_str()), chat.hint.as_ref().map(|id| id.as_str()));
            assert_eq!(told, (session, Some("m")));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_braces_in_strings_do_not_count() {
        assert!(!deeper_than(r#"{"a":"[[[\"[[["}"#, 1));
        assert!(deeper_than(r#"{"a":[1]}"#, 1));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(r#"{{"id":"a","type":"collaborative_action","payload":{{"data":{deep}}}}}"#);
        assert_eq!(refused(&text), (Some("a".into()), "Message nested too deeply".into()));
    }

    #[test]
    fn gzip_is_unpacked_within_the_limit() {
        let pack = |text: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text).unwrap();
            gzip.finish().unwrap()
        };
        assert_eq!(unpack(&pack(b"{}"), 2).unwrap(), "{}");
        assert_eq!(unpack(&pack(&[b'x'; 3]), 2).unwrap_err().code, 413);
        let behind = [pack(b"{}"), b"x".to_vec()].concat();
        let twice = [pack(b"{}"), pack(b"{}")].concat();
        for bad in [b"\x00\x01".as_slice(), b"\x1f\x8bnonsense", &pack(b"\xff\xfe"), &behind, &twice] {
            assert_eq!(unpack(bad, 100).unwrap_err().error, "invalid_json");
        }
    }
}
