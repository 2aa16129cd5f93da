//! Open-A.G.I: nodes and dashboards subscribe to network, consensus, security and monitoring events.
//!
//! Follows `protocols/open-agi.md`. A connection proves itself with a token, gets nothing before it subscribes, and ends
//! with its token. Subscriptions belong to the connection; there is no replay.

use std::sync::Arc;

use roundtable_core::cluster::NodeJoined;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Event;
use roundtable_core::ids::{ConnectionId, Principal};
use roundtable_core::time::Time;

pub use encode::encode;
use errors::Fault;
use wire::{Channel, ClientFrame};

use crate::pace::Limit;
use crate::session::{
    Ask, Credentials, Ending, Family, Identity, Input, Opening, Output, Outputs, Proof, Refusal, Route,
    Scene, Session, Sign, Token, bearer, query_value,
};

pub mod encode;
pub mod errors;
pub mod rest;
pub mod wire;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// After so many milliseconds without a frame a connection is subscribed to `network_events`; `None` never. The
    /// document's Python sample never subscribes (Open-A.G.I notes §3).
    pub grace_ms: Option<i64>,
    /// Frames of one connection that are read in a second; `None` for any number.
    pub frames_per_second: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace_ms: Some(10_000), frames_per_second: Some(100) }
    }
}

/// Presence and membership are asked for and answered without the client.
const SILENT: Token = Token(0);
/// The close code for a refused credential.
const POLICY: u16 = 1008;
/// The path that is subscribed to `monitoring_events` from the start.
const STREAM: &str = "/monitoring/stream";

/// One connection.
pub struct OpenAgiSession {
    settings: Arc<Settings>,
    connection: ConnectionId,
    /// Where the client is, as its network membership tells.
    address: String,
    stream: bool,
    known: bool,
    over: bool,
    channels: Vec<Channel>,
    grace_at: Option<Time>,
    /// When its token is over, in log time.
    expires_at: Option<Time>,
    /// That it sends too much was told, and nothing was read since.
    told_too_fast: bool,
}

impl OpenAgiSession {
    /// A connection that has not been opened.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            connection: ConnectionId(0),
            address: String::new(),
            stream: false,
            known: false,
            over: false,
            channels: Vec::new(),
            grace_at: None,
            expires_at: None,
            told_too_fast: false,
        }
    }

    fn refuse(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        let reason = errors::reason_of(refusal);
        out.push(Output::Send(wire::error(
            &Fault::new(errors::status_of_refusal(refusal), reason),
            scene.at,
        )));
        out.push(Output::End(Ending::Close(POLICY, reason.into())));
        self.over = true;
    }

    /// Asks to be woken for whatever comes first.
    fn wake(&self, out: &mut Outputs) {
        let next = [self.grace_at, self.expires_at].into_iter().flatten().min();
        out.extend(next.map(Output::WakeAt));
    }

    /// Subscribing twice is subscribing once.
    fn add(&mut self, channel: Channel, out: &mut Outputs) {
        if !self.channels.contains(&channel) {
            self.channels.push(channel);
            out.push(Output::Subscribe(Topic::Feed(channel.feed()), None));
        }
    }

    fn remove(&mut self, channel: Channel, out: &mut Outputs) {
        if self.channels.contains(&channel) {
            self.channels.retain(|other| *other != channel);
            out.push(Output::Unsubscribe(Topic::Feed(channel.feed())));
        }
    }

    /// Any frame of the client ends the wait for its first one.
    fn end_grace(&mut self, out: &mut Outputs) {
        if self.grace_at.take().is_some() {
            self.wake(out);
        }
    }

    fn obey(&mut self, frame: &ClientFrame, scene: Scene<'_>, out: &mut Outputs) {
        let (name, asked) = match frame {
            ClientFrame::Ping => return out.push(Output::Send(wire::pong())),
            ClientFrame::Pong => return,
            ClientFrame::Subscribe(channels) => {
                channels.iter().for_each(|channel| self.add(*channel, out));
                ("subscribed", channels)
            }
            ClientFrame::Unsubscribe(channels) => {
                channels.iter().for_each(|channel| self.remove(*channel, out));
                ("unsubscribed", channels)
            }
        };
        let answer = |channel: &Channel| wire::subscription(name, *channel, &self.channels, scene.at);
        out.extend(asked.first().map(answer).map(Output::Send));
    }
}

impl Session for OpenAgiSession {
    fn open(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.connection = opening.connection;
        self.address = opening.peer.to_string();
        self.stream = opening.path.ends_with(STREAM);
        self.grace_at = self.settings.grace_ms.filter(|_| !self.stream).map(|ms| scene.now.plus(ms));
        let shown = query_value(opening.query, "token").filter(|token| !token.is_empty());
        let token = shown.or_else(|| opening.authorization.and_then(bearer).map(str::to_owned));
        match token {
            Some(token) => {
                let proof = Proof::Token(Family::OpenAgi, token);
                out.push(Output::Authenticate(Credentials { domain_key: None, proof }));
            }
            None => self.refuse(Refusal::Missing, scene, out),
        }
    }

    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        let identity = match who {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse(refusal, scene, out),
        };
        self.known = true;
        self.expires_at = identity.expires_at.map(|end| scene.moment().log_time_of(end));
        out.push(Output::Ask(Ask::new(SILENT, Command::Connect(None))));
        if let Principal::Node(node) = &identity.principal {
            let joined = NodeJoined {
                node: node.clone(),
                address: self.address.clone(),
                kind: "client".into(),
                capabilities: Vec::new(),
            };
            out.push(Output::Ask(Ask::new(SILENT, Command::JoinNetwork(joined))));
        }
        if self.stream {
            self.add(Channel::Monitoring, out);
        }
        self.wake(out);
    }

    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        if self.over || !self.known {
            return;
        }
        self.end_grace(out);
        self.told_too_fast = false;
        let frame = match input {
            Input::Text(text) => wire::decode(text),
            Input::Binary(_) | Input::Event { .. } | Input::Answer { .. } => Err(Fault::not_json()),
        };
        match frame {
            Ok(frame) => self.obey(&frame, scene, out),
            Err(fault) => {
                if fault == Fault::not_json() {
                    out.push(Output::Notice(Sign::Malformed));
                }
                out.push(Output::Send(wire::error(&fault, scene.at)));
            }
        }
    }

    fn replied(&mut self, _: Token, _: Result<&Outcome, &Error>, _: Scene<'_>, _: &mut Outputs) {
        // Neither presence nor membership is the client's to hear of; what it subscribes to works without them.
    }

    fn route(&mut self, delivery: &Delivery<'_>, _scene: Scene<'_>) -> Route {
        // Its own joining is under way while a quick client subscribes already; whether it came first is no news.
        let own = matches!(delivery.item, Item::Record(record) if matches!(record.event, Event::NodeJoined(_)))
            && delivery.origin == Some(self.connection);
        if self.over || own || !encode::is_shown(delivery) {
            Route::Skip
        } else {
            Route::Shared(encode::FORM)
        }
    }

    fn expelled(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        self.refuse(refusal, scene, out);
    }

    fn frame_limit(&self) -> Option<Limit> {
        self.settings.frames_per_second.map(|per_second| Limit { per_second, burst: per_second })
    }

    /// The first of several frames too many is told, all of them are left unread.
    fn too_fast(&mut self, _after_ms: u64, scene: Scene<'_>, out: &mut Outputs) {
        if self.over {
            return;
        }
        self.end_grace(out);
        out.push(Output::Notice(Sign::TooFast));
        if let Some(most) = self.settings.frames_per_second.filter(|_| !self.told_too_fast) {
            self.told_too_fast = true;
            out.push(Output::Send(wire::error(&Fault::too_many(most), scene.at)));
        }
    }

    fn oversized(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        out.push(Output::Send(wire::error(&Fault::new(413, "Message too large"), scene.at)));
        self.over = true;
    }

    fn woken(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.over {
            return;
        }
        if self.expires_at.is_some_and(|end| end <= scene.now) {
            return self.refuse(Refusal::Expired, scene, out);
        }
        if self.grace_at.is_some_and(|at| at <= scene.now) {
            self.grace_at = None;
            self.obey(&ClientFrame::Subscribe(vec![Channel::Network]), scene, out);
        }
        self.wake(out);
    }

    fn closed(&mut self, _scene: Scene<'_>, out: &mut Outputs) {
        if self.known {
            out.push(Output::Ask(Ask::new(SILENT, Command::Disconnect)));
        }
        self.over = true;
    }
}

#[cfg(test)]
mod tests;
