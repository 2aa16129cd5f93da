//! How to join a room and send a message in each protocol that is compared: the only file that knows servers.
use crate::opening::Seat;
use clap::ValueEnum;

/// A protocol spoken by one or more of the servers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// The peers over plain WebSocket: `{"event":"join"|"msg","room":…,"data":…}`.
    Plain,
    /// The peers over Socket.IO: events `join` and `msg`.
    Socketio,
    /// Roundtable, MXF dialect over Socket.IO: `agent:register` and `message:send`.
    Mxf,
    /// Roundtable, MegaBot dialect: `session_join` and `chat_send`.
    Megabot,
    /// Roundtable, MegaBot dialect: `session_join` and `collaborative_action`.
    MegabotAction,
}

/// One exchange before a connection is ready: what to send (if anything), and what the answer must contain.
pub struct Step {
    pub send: Option<String>,
    pub expect: &'static str,
}

fn step(send: impl Into<Option<String>>, expect: &'static str) -> Step {
    Step { send: send.into(), expect }
}

/// What a client kept from before.
#[derive(Clone, Default)]
pub struct Before {
    pub session: String,
    /// How far it has got; empty where no server asks for it.
    pub place: String,
}

/// One message to be sent.
pub struct Outgoing<'a> {
    pub room: &'a str,
    pub text: &'a str,
    /// Acknowledgement id, asked for in the modes that wait for it.
    pub ack: Option<u64>,
}

impl Protocol {
    pub fn path(self, who: &str) -> String {
        match self {
            Protocol::Plain => "/ws".into(),
            Protocol::Socketio | Protocol::Mxf => "/socket.io/?EIO=4&transport=websocket".into(),
            Protocol::Megabot | Protocol::MegabotAction => format!("/megabot/ws?user_id={who}"),
        }
    }

    /// Whether heartbeats are Engine.IO packets rather than WebSocket pings.
    pub fn engineio(self) -> bool {
        matches!(self, Protocol::Socketio | Protocol::Mxf)
    }

    /// Whether a sender gets a copy of its own message.
    pub fn echoes(self) -> bool {
        matches!(self, Protocol::Plain | Protocol::Socketio | Protocol::Mxf)
    }

    /// Whether a server with this protocol can lose what a client emits right after CONNECT (socketioxide does).
    pub fn may_lose_first_event(self) -> bool {
        self == Protocol::Socketio
    }

    /// The exchanges after the upgrade until the connection with this number is a member of its room.
    pub fn join(self, number: usize, seat: &Seat, auth: &str) -> Vec<Step> {
        let Seat { who, room } = seat;
        match self {
            Protocol::Plain => vec![step(format!(r#"{{"event":"join","room":"{room}"}}"#), "joined")],
            Protocol::Socketio => vec![
                step(None, "0{"),
                step("40".to_string(), "40"),
                step(format!(r#"42["join","{room}"]"#), "joined"),
            ],
            Protocol::Mxf => vec![
                step(None, "0{"),
                step(format!("40{}", auth.replace("{who}", who)), "40{"),
                step(None, "auth:success"),
                step(register(who, room), r#"43999999999[{"success":true"#),
            ],
            Protocol::Megabot | Protocol::MegabotAction => vec![
                step(None, "connection_established"),
                step(
                    format!(
                        r#"{{"id":"join-{number}","type":"session_join","payload":{{"session_id":"{room}"}}}}"#
                    ),
                    "session_joined",
                ),
            ],
        }
    }

    /// By what a client takes up its session again, if this frame of its way in tells.
    pub fn session(self, frame: &[u8]) -> Option<String> {
        match self {
            Protocol::Socketio => field(frame, r#""pid":""#),
            // Later frames name the room by the same word.
            Protocol::Megabot | Protocol::MegabotAction => {
                memchr::memmem::find(frame, b"connection_established")?;
                field(frame, r#""session_id":""#)
            }
            Protocol::Plain | Protocol::Mxf => None,
        }
    }

    /// Where a message of this protocol says how far a client has got, if the server asks that of those who come back.
    pub fn place(self, frame: &[u8]) -> Option<String> {
        match self {
            // Connection state recovery puts it behind the event's own arguments.
            Protocol::Socketio => {
                let rest = frame.strip_suffix(br#""]"#)?;
                let start = memchr::memmem::rfind(rest, br#"},""#)? + 3;
                String::from_utf8(rest[start..].to_vec()).ok()
            }
            Protocol::Mxf => field(frame, r#""cursor":""#),
            Protocol::Plain | Protocol::Megabot | Protocol::MegabotAction => None,
        }
    }

    /// `path` of a client that was there before.
    pub fn path_again(self, who: &str, before: &Before) -> String {
        match self {
            Protocol::Megabot | Protocol::MegabotAction => {
                format!("{}&session_id={}", self.path(who), before.session)
            }
            _ => self.path(who),
        }
    }

    /// `join` of a client that was there before: until it has what it had.
    pub fn join_again(self, number: usize, seat: &Seat, auth: &str, before: &Before) -> Vec<Step> {
        let Before { session, place } = before;
        match self {
            Protocol::Megabot | Protocol::MegabotAction => vec![step(None, r#""resumed":true"#)],
            Protocol::Socketio if !place.is_empty() => {
                vec![step(None, "0{"), step(format!(r#"40{{"pid":"{session}","offset":"{place}"}}"#), "40{")]
            }
            Protocol::Mxf if !place.is_empty() => {
                let auth = auth.trim_end().trim_end_matches('}');
                self.join(number, seat, &format!(r#"{auth},"since":"{place}"}}"#))
            }
            _ => self.join(number, seat, auth),
        }
    }

    /// Whether the server says in this frame that a client that was there before cannot go on.
    pub fn refuses(self, frame: &[u8]) -> bool {
        let says = |what: &str| memchr::memmem::find(frame, what.as_bytes()).is_some();
        match self {
            Protocol::Plain => false,
            Protocol::Socketio | Protocol::Mxf => frame.starts_with(b"44"),
            Protocol::Megabot | Protocol::MegabotAction => {
                says(r#""resumed":false"#) || says("connection_error")
            }
        }
    }

    /// Appends the message as the text of one frame.
    pub fn message(self, out: &mut String, m: &Outgoing<'_>) {
        let Outgoing { room, text, ack } = m;
        let ack = ack.map(|a| a.to_string()).unwrap_or_default();
        // Where a protocol wants an id of each message, the text's mark is one: unique within the run.
        let id = text.get(2..17).unwrap_or_default();
        let written = match self {
            Protocol::Plain => format!(r#"{{"event":"msg","room":"{room}","data":{{"text":"{text}"}}}}"#),
            Protocol::Socketio => format!(r#"42{ack}["msg",{{"room":"{room}","data":{{"text":"{text}"}}}}]"#),
            Protocol::Mxf => {
                format!(r#"42{ack}["message:send",{{"channelId":"{room}","content":"{text}"}}]"#)
            }
            Protocol::Megabot => format!(
                r#"{{"id":"{room}-{id}","type":"chat_send","payload":{{"content":"{text}","session_id":"{room}"}}}}"#
            ),
            Protocol::MegabotAction => format!(
                r#"{{"id":"{room}-{id}","type":"collaborative_action","payload":{{"session_id":"{room}","action":"text_edit","data":{{"text":"{text}"}}}}}}"#
            ),
        };
        out.push_str(&written);
    }

    /// Length of the text that makes a message of the peers' plain protocol 150 bytes long; the text is the same in
    /// every protocol.
    pub fn text_len(room: &str) -> usize {
        let mut empty = String::new();
        Protocol::Plain.message(&mut empty, &Outgoing { room, text: "", ack: None });
        150usize.saturating_sub(empty.len())
    }
}

/// The text after `name`, which ends with the quotation mark that opens the text.
fn field(frame: &[u8], name: &str) -> Option<String> {
    let start = memchr::memmem::find(frame, name.as_bytes())? + name.len();
    let rest = frame.get(start..)?;
    let end = memchr::memchr(b'"', rest)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

fn register(who: &str, room: &str) -> String {
    format!(
        r#"42999999999["agent:register",{{"agentId":"{who}","name":"{who}","channelId":"{room}","capabilities":["chat"]}}]"#
    )
}

/// The id of an acknowledgement frame (`43<id>[…`), and whether it tells of success.
pub fn acknowledgement(frame: &[u8]) -> Option<(u64, bool)> {
    let rest = frame.strip_prefix(b"43")?;
    let end = rest.iter().position(|b| *b == b'[')?;
    let id = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    Some((id, memchr::memmem::find(rest, br#""success":false"#).is_none()))
}

#[cfg(test)]
mod tests {
    use super::{Outgoing, Protocol, acknowledgement};

    #[test]
    fn plain_messages_are_150_bytes() {
        let text = crate::tag::text(0, 0, Protocol::text_len("bench-7"));
        let mut out = String::new();
        Protocol::Plain.message(&mut out, &Outgoing { room: "bench-7", text: &text, ack: None });
        assert_eq!(out.len(), 150);
    }

    #[test]
    fn a_client_keeps_where_it_was() {
        let session = |p: Protocol, frame: &str| p.session(frame.as_bytes());
        assert_eq!(session(Protocol::Socketio, r#"40{"sid":"a","pid":"b"}"#), Some("b".into()));
        assert_eq!(session(Protocol::Socketio, r#"40{"sid":"a"}"#), None);
        let established = r#"{"type":"connection_established","payload":{"session_id":"sess_1"}}"#;
        assert_eq!(session(Protocol::Megabot, established), Some("sess_1".into()));
        let joined = r#"{"type":"session_joined","payload":{"session_id":"room"}}"#;
        assert_eq!(session(Protocol::Megabot, joined), None);
        let place = |p: Protocol, frame: &str| p.place(frame.as_bytes());
        assert_eq!(place(Protocol::Socketio, r#"42["msg",{"room":"r"},"off"]"#), Some("off".into()));
        assert_eq!(place(Protocol::Socketio, r#"42["msg",{"room":"r"}]"#), None);
        assert_eq!(place(Protocol::Mxf, r#"42["message",{"cursor":"1:7"}]"#), Some("1:7".into()));
    }

    #[test]
    fn acknowledgements_are_read() {
        assert_eq!(acknowledgement(br#"4317[{"success":true}]"#), Some((17, true)));
        assert_eq!(acknowledgement(br#"435[{"success":false,"code":"RATE_LIMITED"}]"#), Some((5, false)));
        assert_eq!(acknowledgement(br#"42["message",{}]"#), None);
    }
}
