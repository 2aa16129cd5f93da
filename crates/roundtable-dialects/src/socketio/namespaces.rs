//! The namespaces of one connection, and packets whose attachments are on their way.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::args::{Args, check_placeholders};
use super::packet::{Kind, Packet};
use super::{Config, MAIN, MAX_NAMESPACES, Violation, encode};
use crate::engineio::Sid;

/// Deadline of a connection that has a namespace.
const NEVER: u64 = u64::MAX;

/// A namespace's place within its connection, below [`MAX_NAMESPACES`]: an index for the sessions a server
/// keeps beside [`Namespaces`]. Given to another namespace once this one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u8);

impl Slot {
    /// The place as a number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A CONNECT that is being checked. When a client asks again before the answer, only the newest attempt
/// counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    slot: Slot,
    number: u32,
}

impl Attempt {
    /// The place the namespace gets.
    pub fn slot(self) -> Slot {
        self.slot
    }
}

/// An event from a client.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Where it came in.
    pub slot: Slot,
    /// The client wants an acknowledgement with this id.
    pub ack: Option<u64>,
    /// Its name; borrowed unless it was written with escapes.
    pub name: Cow<'a, str>,
    /// What follows the name.
    pub args: Args<'a>,
}

/// A client's answer to an event that asked for one. Whether the id was ever given out is for the receiver to
/// check.
#[derive(Debug, Clone)]
pub struct Ack<'a> {
    /// Where it came in.
    pub slot: Slot,
    /// The id that the server's event carried.
    pub id: u64,
    /// The answer.
    pub args: Args<'a>,
}

/// What a message leads to.
#[derive(Debug)]
#[must_use]
pub enum Step<'a> {
    /// Nothing.
    Nothing,
    /// Check whether the client may enter; the answer may take its time. Other namespaces go on meanwhile.
    Connect {
        /// What the answer refers to.
        attempt: Attempt,
        /// The namespace's name, `/…`; unknown ones are refused with
        /// [`INVALID_NAMESPACE`](super::INVALID_NAMESPACE).
        namespace: &'a str,
        /// The payload, or nothing. The protocol knows objects only; any other JSON is for the session to refuse.
        auth: Option<&'a RawValue>,
    },
    /// Handle the event.
    Event(Event<'a>),
    /// Hand on the acknowledgement.
    Ack(Ack<'a>),
    /// An event or acknowledgement with attachments is complete; [`Assembled::read`] it.
    Complete(Box<Assembled>),
    /// The client left the namespace; the connection stays. Nothing is answered.
    Disconnect(Slot),
    /// Close the connection.
    Close(Violation),
}

/// A packet with all its attachments.
#[derive(Debug)]
pub struct Assembled {
    kind: Kind,
    slot: Slot,
    ack: Option<u64>,
    json: Box<str>,
    attachments: Vec<Bytes>,
    /// How many were announced.
    expected: usize,
    /// Bytes of JSON and attachments so far.
    size: usize,
}

impl Assembled {
    /// The packet as [`Step::Event`] or [`Step::Ack`].
    pub fn read(&self) -> Step<'_> {
        let packet = (self.kind, self.ack, &*self.json);
        read(self.slot, packet, &self.attachments).unwrap_or_else(Step::Close)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Pending(u32),
    Connected(Sid),
    /// Ended by the server: what the client sent before it heard of that is ignored.
    Ended,
}

#[derive(Debug)]
struct Namespace {
    /// `None` is the main namespace, so that a usual connection owns no memory for names.
    name: Option<Box<str>>,
    state: State,
}

impl Namespace {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(MAIN)
    }
}

/// State of one Socket.IO connection.
#[derive(Debug)]
pub struct Namespaces {
    places: SmallVec<[Namespace; 1]>,
    assembling: Option<Box<Assembled>>,
    attempts: u32,
    last_ack_id: u32,
    /// Somebody has shown who it is. An accepted CONNECT alone shows nothing.
    known: bool,
    /// When a client must go that is in no namespace.
    deadline: u64,
}

impl Namespaces {
    /// The connection opened at `now`.
    pub fn new(now: u64, config: &Config) -> Self {
        Self {
            places: SmallVec::new(),
            assembling: None,
            attempts: 0,
            last_ack_id: 0,
            known: false,
            deadline: now.saturating_add(config.connect_timeout),
        }
    }

    /// Somebody has shown who it is: from now on the limits are wider.
    pub fn becomes_known(&mut self) {
        self.known = true;
    }

    /// A packet was announced whose attachments have not all come.
    pub fn is_assembling(&self) -> bool {
        self.assembling.is_some()
    }

    /// The client left a namespace. If it was the last, somebody known has the time of a fresh connection to enter another.
    pub fn on_left(&mut self, now: u64, config: &Config) {
        if self.known {
            self.deadline = now.saturating_add(config.connect_timeout);
        }
    }

    /// A text message.
    pub fn on_text<'a>(&mut self, text: &'a str, config: &Config) -> Step<'a> {
        self.text(text, config).unwrap_or_else(Step::Close)
    }

    /// A binary message.
    pub fn on_binary<'a>(&mut self, bytes: Cow<'_, [u8]>, config: &Config) -> Step<'a> {
        let most = self.max_packet(config);
        let Some(packet) = &mut self.assembling else {
            return Step::Close(Violation::UnexpectedBinary);
        };
        packet.size = packet.size.saturating_add(bytes.len());
        if packet.size > most {
            return Step::Close(Violation::TooLarge);
        }
        packet.attachments.push(Bytes::from(bytes.into_owned()));
        if packet.attachments.len() < packet.expected {
            return Step::Nothing;
        }
        match self.assembling.take() {
            Some(packet) if self.is_connected(packet.slot) => Step::Complete(packet),
            _ => Step::Nothing,
        }
    }

    /// Grants a namespace: gives the packet to send, or `None` if a newer attempt took this one's place.
    /// `sid` is the id of the socket, other than the engine's. Whatever the client may use at once must be
    /// ready before.
    #[must_use]
    pub fn accept(&mut self, attempt: Attempt, sid: Sid) -> Option<String> {
        let place = self.pending(attempt)?;
        place.state = State::Connected(sid);
        Some(encode::connected(place.name(), &sid))
    }

    /// Refuses a namespace: gives the packet to send, or `None` if a newer attempt took this one's place.
    /// `data` is JSON. The client may ask again over the same connection.
    #[must_use]
    pub fn refuse(&mut self, attempt: Attempt, message: &str, data: Option<&str>) -> Option<String> {
        let place = self.pending(attempt)?;
        place.state = State::Free;
        let name = place.name.take();
        Some(encode::connect_error(name.as_deref().unwrap_or(MAIN), message, data))
    }

    /// Ends a namespace from the server's side: gives the packet to send, or `None` if the client is not
    /// connected there.
    #[must_use]
    pub fn disconnect(&mut self, slot: Slot) -> Option<String> {
        let place = self.places.get_mut(slot.index())?;
        if !matches!(place.state, State::Connected(_)) {
            return None;
        }
        place.state = State::Ended;
        Some(encode::disconnect(place.name()))
    }

    /// Name of a namespace that is connected or being checked.
    pub fn name(&self, slot: Slot) -> Option<&str> {
        let place = self.places.get(slot.index())?;
        matches!(place.state, State::Connected(_) | State::Pending(_)).then(|| place.name())
    }

    /// Id of the socket in a connected namespace.
    pub fn sid(&self, slot: Slot) -> Option<&Sid> {
        match &self.places.get(slot.index())?.state {
            State::Connected(sid) => Some(sid),
            _ => None,
        }
    }

    /// All connected namespaces.
    pub fn connected(&self) -> impl Iterator<Item = Slot> {
        let slots = (0..).map(Slot);
        slots
            .zip(&self.places)
            .filter_map(|(slot, place)| matches!(place.state, State::Connected(_)).then_some(slot))
    }

    /// An id for an event that asks the client for an acknowledgement, new within this connection.
    pub fn new_ack_id(&mut self) -> u64 {
        self.last_ack_id = self.last_ack_id.wrapping_add(1);
        u64::from(self.last_ack_id)
    }

    /// When [`Namespaces::on_tick`] has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        (self.deadline != NEVER && self.connected().next().is_none()).then_some(self.deadline)
    }

    /// Time has passed: a client that is in no namespace must go, even while one is being checked. A stranger that left one
    /// gets no more time by that.
    pub fn on_tick<'a>(&mut self, now: u64) -> Step<'a> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Step::Nothing;
        }
        self.deadline = NEVER;
        Step::Close(Violation::ConnectTimeout)
    }

    fn text<'a>(&mut self, text: &'a str, config: &Config) -> Result<Step<'a>, Violation> {
        if text.len() > self.max_packet(config) {
            return Err(Violation::TooLarge);
        }
        if self.assembling.is_some() {
            return Err(Violation::UnexpectedText);
        }
        let packet = Packet::parse(text)?;
        let found = self.find(packet.namespace);
        match packet.kind {
            Kind::ConnectError => Err(Violation::PacketType),
            Kind::Connect => self.connect(&packet, found),
            Kind::Disconnect => {
                let (slot, ignored) = found.ok_or(Violation::NotConnected)?;
                if ignored {
                    return Ok(Step::Nothing);
                }
                self.free(slot);
                Ok(Step::Disconnect(slot))
            }
            Kind::Event | Kind::Ack => {
                let (slot, ignored) = found.ok_or(Violation::NotConnected)?;
                let step = read(slot, (packet.kind, packet.ack, packet.data), &[])?;
                Ok(if ignored { Step::Nothing } else { step })
            }
            Kind::BinaryEvent | Kind::BinaryAck => {
                let (slot, _) = found.ok_or(Violation::NotConnected)?;
                self.assemble(slot, &packet)?;
                Ok(Step::Nothing)
            }
        }
    }

    fn max_packet(&self, config: &Config) -> usize {
        if self.known { config.max_packet } else { config.max_before_connect }
    }

    fn connect<'a>(
        &mut self,
        packet: &Packet<'a>,
        found: Option<(Slot, bool)>,
    ) -> Result<Step<'a>, Violation> {
        let auth = match packet.data {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|_| Violation::Payload)?),
        };
        let slot = match found {
            Some((_, false)) => return Err(Violation::AlreadyConnected),
            Some((slot, true)) => slot,
            None => self.place_for(packet.namespace)?,
        };
        self.attempts = self.attempts.wrapping_add(1);
        if let Some(place) = self.places.get_mut(slot.index()) {
            place.state = State::Pending(self.attempts);
        }
        let attempt = Attempt { slot, number: self.attempts };
        Ok(Step::Connect { attempt, namespace: packet.namespace, auth })
    }

    /// The namespace's place for a new CONNECT: that of an unanswered one, a free one, or a new one.
    fn place_for(&mut self, name: &str) -> Result<Slot, Violation> {
        let pending = |place: &Namespace| matches!(place.state, State::Pending(_)) && place.name() == name;
        let index = match self.places.iter().position(pending) {
            Some(index) => index,
            None => {
                let name = (name != MAIN).then(|| Box::from(name));
                let new = Namespace { name, state: State::Free };
                // Places of ended namespaces come last: they still tell late packets from wrong ones.
                let unused = self.places.iter().position(|place| place.state == State::Free);
                let full = self.places.len() >= MAX_NAMESPACES;
                let ended = || self.places.iter().position(|place| full && place.state == State::Ended);
                match unused.or_else(ended) {
                    Some(index) => {
                        if let Some(place) = self.places.get_mut(index) {
                            *place = new;
                        }
                        index
                    }
                    None if full => return Err(Violation::TooManyNamespaces),
                    None => {
                        self.places.push(new);
                        self.places.len() - 1
                    }
                }
            }
        };
        u8::try_from(index).map(Slot).map_err(|_| Violation::TooManyNamespaces)
    }

    fn assemble(&mut self, slot: Slot, packet: &Packet<'_>) -> Result<(), Violation> {
        // Everything that can be wrong is found before anything is held back.
        let _ = read(slot, (packet.kind, packet.ack, packet.data), &[])?;
        check_placeholders(packet.data, packet.attachments)?;
        self.assembling = Some(Box::new(Assembled {
            kind: packet.kind,
            slot,
            ack: packet.ack,
            json: Box::from(packet.data),
            attachments: Vec::with_capacity(packet.attachments),
            expected: packet.attachments,
            size: packet.data.len(),
        }));
        Ok(())
    }

    /// The place of a namespace that was granted, and whether its packets are ignored by now.
    fn find(&self, name: &str) -> Option<(Slot, bool)> {
        (0..).map(Slot).zip(&self.places).find_map(|(slot, place)| {
            let ignored = match place.state {
                State::Connected(_) => false,
                State::Ended => true,
                State::Free | State::Pending(_) => return None,
            };
            (place.name() == name).then_some((slot, ignored))
        })
    }

    fn is_connected(&self, slot: Slot) -> bool {
        self.sid(slot).is_some()
    }

    fn pending(&mut self, attempt: Attempt) -> Option<&mut Namespace> {
        let place = self.places.get_mut(attempt.slot.index())?;
        (place.state == State::Pending(attempt.number)).then_some(place)
    }

    fn free(&mut self, slot: Slot) {
        if let Some(place) = self.places.get_mut(slot.index()) {
            *place = Namespace { name: None, state: State::Free };
        }
    }
}

/// Reads the JSON of an event or an acknowledgement, given with its kind and id.
fn read<'a>(
    slot: Slot,
    (kind, ack, json): (Kind, Option<u64>, &'a str),
    attachments: &'a [Bytes],
) -> Result<Step<'a>, Violation> {
    let mut args = Args::read(json, attachments)?;
    if matches!(kind, Kind::Event | Kind::BinaryEvent) {
        let name = args.take_name()?;
        return Ok(Step::Event(Event { slot, ack, name, args }));
    }
    let id = ack.ok_or(Violation::AckId)?;
    Ok(Step::Ack(Ack { slot, id, args }))
}

#[cfg(test)]
mod tests;
