//! What clients send: which event it is, in which form, and from there to the engine.

mod agents;
mod channels;
mod envelope;
pub(super) mod memory;
mod messages;
mod setup;

use base64::Engine as _;
use bytes::Bytes;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::Principal;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

pub(super) use messages::part;

use super::encode::{ENVELOPE, FLAT, UNDETERMINED};
use super::errors::LOGIN_FIRST;
use super::wire::envelope::Envelope;
use super::wire::{DOCUMENT_EVENTS, SDK_EVENTS};
use super::{Call, Held, MxfSession, Stage, Then, acknowledge, send};
use crate::session::{Message, Output, Outputs, Scene, Sign};

/// Most events, and most bytes of their payloads, that wait while a channel is being entered; the sender of more is told.
const MOST_HELD: (usize, usize) = (256, 1 << 20);

/// A payload as it came: the first argument and the packet's attachments.
type Payload<'a> = (Option<&'a RawValue>, &'a [Bytes]);

impl MxfSession {
    /// One event of the client's, now or when the channel that it is entering has been entered.
    pub(super) fn take(
        &mut self,
        (name, ack): (&str, Option<u64>),
        payload: Payload<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if self.held.is_empty() && !self.is_entering_channel() {
            self.event((name, ack), payload, scene, out);
        } else if self.held.len() < MOST_HELD.0
            && self.held.iter().map(Held::size).sum::<usize>() < MOST_HELD.1
        {
            let (raw, attachments) = payload;
            let payload = raw.map(ToOwned::to_owned);
            self.held.push_back(Held { name: name.into(), payload, attachments: attachments.into(), ack });
        } else {
            let error = Error::new(ErrorKind::RateLimited, "too many events at once");
            self.refuse(Call { event: known(name).unwrap_or(""), ack }, &error, scene, out);
        }
    }

    /// Events that waited go on.
    pub(super) fn release(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        while !self.is_entering_channel() {
            let Some(held) = self.held.pop_front() else { return };
            let payload = (held.payload.as_deref(), held.attachments.as_slice());
            self.event((&held.name, held.ack), payload, scene, out);
        }
    }

    fn is_entering_channel(&self) -> bool {
        self.pending.iter().any(|p| matches!(p.then, Then::Registered { .. } | Then::Joined { .. }))
    }

    fn event(
        &mut self,
        (name, ack): (&str, Option<u64>),
        (raw, attachments): Payload<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if name == "auth" {
            self.late_auth(raw, ack, scene, out);
            return;
        }
        let call = Call { event: known(name).unwrap_or(""), ack };
        if !matches!(self.stage, Stage::Inside) {
            let error = Error::new(ErrorKind::Unauthenticated, LOGIN_FIRST);
            self.refuse(call, &error, scene, out);
            return;
        }
        let settled = (!attachments.is_empty()).then(|| settle(raw, attachments)).flatten();
        let (raw, binary) = match &settled {
            Some((raw, binary)) => (Some(&**raw), binary.as_ref()),
            None => (raw, None),
        };
        let envelope = raw.and_then(Envelope::read);
        self.determine(name, envelope.is_some());
        let result = match &envelope {
            Some(envelope) => self.enveloped(call, envelope, scene, out),
            None if call.event.is_empty() || SDK_EVENTS.contains(&call.event) => {
                self.bare(call, raw, scene, out)
            }
            None => self.flat(call, (raw, binary), scene, out),
        };
        if let Err(error) = result {
            if let Some(envelope) = &envelope {
                self.tell_sdk(call, &envelope.channel, &error, (scene, out));
            }
            self.refuse(call, &error, scene, out);
        }
    }

    /// The first envelope makes a socket the SDK's, the first event of the document without one makes it flat (MXF notes §4).
    fn determine(&mut self, name: &str, envelope: bool) {
        if self.form == UNDETERMINED {
            if envelope {
                self.form = ENVELOPE;
            } else if DOCUMENT_EVENTS.contains(&name) {
                self.form = FLAT;
            }
        }
    }

    /// An event of the document (MXF notes §5).
    fn flat(
        &mut self,
        call: Call,
        (raw, binary): (Option<&RawValue>, Option<&Bytes>),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let fields = super::wire::fields::Fields::payload(raw)?;
        match call.event {
            "agent:register" => self.register(call, &fields, out),
            "agent:update" => self.update_agent(call, &fields, out),
            "agent:status" => self.ask_status(call, &fields, out),
            "message:send" => self.say(call, (&fields, binary), scene, out),
            "message:broadcast" => self.say(call, (&fields, binary), scene, out),
            "message:direct" => self.say_direct(call, (&fields, binary), out),
            "channel:join" => self.join(call, &fields, scene, out),
            "channel:leave" => self.leave(call, &fields, scene, out),
            "channel:update" => self.update_channel(call, &fields, out),
            "memory:get" => self.recall(call, &fields, out),
            "mcp:tool:list" => Self::list_no_tools(call, &fields, out),
            other => Err(Error::new(ErrorKind::InvalidField, format!("{other} is not served here"))),
        }
    }

    /// An event of the SDK that needs no envelope, or one that nobody knows. SDK sockets are told nothing of the latter.
    fn bare(
        &mut self,
        call: Call,
        raw: Option<&RawValue>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        match call.event {
            "heartbeat" => {
                heartbeat(call, scene, out);
                Ok(())
            }
            "agent:join_channel" => self.join_channel(call, raw, scene, out),
            _ if self.form == ENVELOPE => {
                not_served(call, out);
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::InvalidField, "This event is not served here")),
        }
    }

    /// Fails unless the payload's agent is the socket's own: a key speaks for its agent only (MXF notes §2).
    fn only_own(&self, agent: &Principal, out: &mut Outputs) -> Result<(), Error> {
        let own = self.principal();
        if own.agent().is_some() && own != *agent {
            out.push(Output::Notice(Sign::Impersonation));
            return Err(Error::forbidden(format!("this connection speaks for {} only", own.id())));
        }
        Ok(())
    }
}

/// The SDK's sign of life, raw or in an envelope; the answer is raw.
fn heartbeat(call: Call, scene: Scene<'_>, out: &mut Outputs) {
    let answer = serde_json::json!({"timestamp": scene.at.0});
    send("heartbeat:response", &answer, out);
    acknowledge(call.ack, super::members(answer), out);
}

/// Answers the acknowledgement of an event that has no effect here.
fn not_served(call: Call, out: &mut Outputs) {
    if let Some(id) = call.ack {
        let error = Error::new(ErrorKind::InvalidField, "This event is not served here");
        out.push(Output::Send(Message::Ack(id, super::errors::ack(&error))));
    }
}

/// The event's name, if it is one of MXF's.
fn known(name: &str) -> Option<&'static str> {
    DOCUMENT_EVENTS.iter().chain(&SDK_EVENTS).find(|known| **known == name).copied()
}

/// The payload with each attachment as base64 text, but for one that is the whole content, which is given apart.
fn settle(raw: Option<&RawValue>, attachments: &[Bytes]) -> Option<(Box<RawValue>, Option<Bytes>)> {
    let mut value: Value = serde_json::from_str(raw?.get()).ok()?;
    let content = value.get_mut("content").and_then(|content| attachment(content, attachments).cloned());
    replace(&mut value, attachments);
    Some((to_raw_value(&value).ok()?, content))
}

/// The attachment that a value stands for.
fn attachment<'a>(value: &Value, attachments: &'a [Bytes]) -> Option<&'a Bytes> {
    let object = value.as_object()?;
    let number = object.get("num")?.as_u64()?;
    (object.get("_placeholder")? == true).then(|| attachments.get(usize::try_from(number).ok()?)).flatten()
}

fn replace(value: &mut Value, attachments: &[Bytes]) {
    if let Some(bytes) = attachment(value, attachments) {
        *value = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, attachments)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, attachments)),
        _ => {}
    }
}
