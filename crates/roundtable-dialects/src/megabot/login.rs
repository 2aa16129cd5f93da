//! The way in and out: credentials, guests, seats that are taken again, goodbyes (MegaBot notes §1, §7).

use std::collections::BTreeMap;

use roundtable_core::access;
use roundtable_core::command::Command;
use roundtable_core::delivery::Topic;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{ConnectionId, Principal, RoomId};
use roundtable_core::rooms::{Entry, JoinRoom, RoomCard};
use roundtable_core::seats::{KeepSeat, Seat};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::errors::Fault;
use super::wire::MAX_PLATFORM_CHARS;
use super::{Early, Heard, MegaBotSession, OWN_PREFIX, Phase, SECRET_PREFIX, Waiting, encode};
use crate::cursor;
use crate::session::{
    Credential, Credentials, Family, Identity, Most, Opening, Output, Outputs, Proof, Refusal, Scene, bearer,
    query_value,
};
use crate::websocket::close;

/// Where a client sits that does not say so.
const DEFAULT_PLATFORM: &str = "web";
/// Longest name of a guest.
const MAX_GUEST_CHARS: usize = 64;
/// What this server can do for a client.
const CAPABILITIES: [&str; 6] = ["chat", "realtime", "streaming", "collaboration", "batch", "resume"];
/// Other connections of the same user that are looked at one by one when a room is left.
const MAX_LOOKED_AT: usize = 64;

impl MegaBotSession {
    /// Reads the request and asks who this is.
    pub(super) fn knock(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        let query = |name| query_value(opening.query, name);
        self.connection = opening.connection;
        self.platform = query("platform")
            .filter(|p| (1..=MAX_PLATFORM_CHARS).contains(&p.chars().count()))
            .unwrap_or_else(|| DEFAULT_PLATFORM.to_owned());
        let asked = query("compression").is_some_and(|c| matches!(c.as_str(), "gzip" | "true" | "1"));
        if asked && !opening.deflate {
            self.form = encode::GZIP;
        }
        self.secret = format!("{SECRET_PREFIX}{:032x}", opening.random);
        self.own = own_room_of(opening.random);
        self.wanted = query("session_id");
        self.since = query("since").filter(|since| !since.is_empty());
        let proof = match credential(opening) {
            Some(proof) => proof,
            None if !opening.anonymous => return self.refuse(Refusal::Missing, scene, out),
            None => Proof::Guest(self.guest_name(query("user_id"), scene)),
        };
        self.key = matches!(proof, Proof::ApiKey(_));
        out.push(Output::Authenticate(Credentials { domain_key: None, proof }));
    }

    /// The name a guest asks for; one that comes back with its session and no name gets its former name.
    fn guest_name(&mut self, asked: Option<String>, scene: Scene<'_>) -> Option<String> {
        if asked.is_none()
            && let Some((_, seat)) = self.wanted.as_ref().and_then(|secret| opened_by(secret, scene))
            && let Principal::Guest(name) = &seat.owner
        {
            return Some(name.as_str().to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = |name: &String| (1..=MAX_GUEST_CHARS).contains(&name.len()) && name.chars().all(plain);
        self.misnamed = asked.as_ref().is_some_and(|name| !fits(name));
        asked.filter(fits)
    }

    /// Says why not, and closes.
    pub(super) fn refuse(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        let fault = Fault::refusal(refusal, self.key);
        self.send("connection_error", &fault, scene, out);
        self.end(close::POLICY, fault.message, out);
    }

    /// Takes the seat that was asked for, or a new one.
    pub(super) fn sit(&mut self, identity: &Identity, scene: Scene<'_>, out: &mut Outputs) {
        let who = identity.principal.clone();
        self.verified = identity.credential != Credential::Guest;
        self.epoch = scene.epoch;
        self.feed = Heard::from(scene.state.head);
        let wanted = self.wanted.take();
        if let Some(secret) = wanted
            && let Some((id, seat)) = opened_by(&secret, scene).filter(|(_, seat)| seat.owner == who)
        {
            // Who came by the id of a seat of 0.1.0 gets a secret now.
            if seat.secrets.contains(&hash(&secret)) {
                self.secret = secret;
            }
            self.own = Some(id.clone());
            self.resumed = true;
            self.epoch = seat.epoch;
            self.feed = Heard::from(seat.seen);
            self.former.clone_from(&seat.connections);
            let heard = |(room, offset): (&RoomId, &Offset)| (room.clone(), Heard::from(*offset));
            self.rooms = seat.rooms.iter().map(heard).collect();
            if let Some(since) = self.place(scene) {
                self.epoch = since.epoch;
                self.feed = Heard::from(since.offset);
                self.rooms.values_mut().for_each(|heard| *heard = Heard::from(since.offset));
            }
        }
        self.who = Some(who);
        self.ask(Command::Connect(Some(self.platform.clone())), Waiting::Nothing, out);
        self.keep_seat(Waiting::Seat, scene, out);
    }

    /// The seat is taken, or cannot be now. Where more was missed than is sent again, it is found out first what that is.
    pub(super) fn seated(&mut self, kept: bool, scene: Scene<'_>, out: &mut Outputs) {
        self.seat_kept = kept;
        let since = |heard: &Heard| Cursor { epoch: self.epoch, offset: heard.arrived };
        let rooms = self.rooms.iter().map(|(room, heard)| (Topic::Room(room.clone()), since(heard)));
        let mut missed: Vec<_> = rooms.collect();
        if self.who.as_ref().is_some_and(|who| access::may_operate(scene.state, who)) {
            missed.push((Topic::Feed(Feed::Activity), since(&self.feed)));
        }
        let most = self.settings.missed_frames;
        let oldest = missed.iter().map(|(_, since)| since.offset).min().unwrap_or(scene.state.head);
        // Each record is one frame at most.
        if self.resumed && scene.state.head.0.saturating_sub(oldest.0) > most as u64 {
            return out.push(Output::Survey { missed, most: Most::Together(most) });
        }
        self.begin(scene, out);
    }

    /// What was missed up to here is too much to be sent again.
    pub(super) fn resume_after(&mut self, last_lost: Option<Offset>, scene: Scene<'_>, out: &mut Outputs) {
        if self.phase != Phase::Door {
            return;
        }
        if let Some(last) = last_lost {
            self.lost_some = true;
            for heard in self.rooms.values_mut().chain([&mut self.feed]).filter(|h| h.arrived < last) {
                *heard = Heard::from(last);
            }
        }
        self.begin(scene, out);
    }

    /// The session begins: the client is told, then gets what it missed, then what it sent early is done.
    fn begin(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        #[derive(Serialize)]
        struct Established<'a> {
            session_id: &'a str,
            room_id: Option<&'a RoomId>,
            user_id: &'a str,
            capabilities: &'a [&'static str],
            verified: bool,
            resumed: bool,
        }
        let Some(who) = self.who.clone() else { return };
        let kept = self.seat_kept;
        let (own, secret) = (self.own.clone(), self.secret.clone());
        let known = CAPABILITIES.iter().filter(|c| kept || **c != "resume");
        let payload = Established {
            session_id: &secret,
            room_id: own.as_ref(),
            user_id: who.id(),
            capabilities: &known.copied().collect::<Vec<_>>(),
            verified: self.verified,
            resumed: self.resumed,
        };
        self.phase = Phase::Open;
        self.send("connection_established", payload, scene, out);
        if self.since.is_some() && self.place(scene).is_none() {
            let wrong = "since must be a cursor EPOCH:OFFSET or the sequence of a frame";
            self.error(None, &Fault::validation(wrong), scene, out);
        }
        if self.misnamed {
            let wrong = "user_id cannot be a guest's name: it has 1 to 64 characters of A-Z a-z 0-9 . _ -";
            self.error(None, &Fault::validation(wrong), scene, out);
        }
        if std::mem::take(&mut self.lost_some) {
            self.tell_of_loss(scene, out);
        }
        let since = |heard: Heard, epoch| Cursor { epoch, offset: heard.arrived };
        if access::may_operate(scene.state, &who) {
            let from = self.resumed.then(|| since(self.feed, self.epoch));
            out.push(Output::Subscribe(Topic::Feed(Feed::Activity), from));
        }
        out.push(Output::Subscribe(Topic::Principal(who.clone()), None));
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            let join = self.joining(&room, &who);
            self.ask(join, Waiting::Rejoin(room), out);
        }
        for early in std::mem::take(&mut self.early) {
            match early {
                Early::Text(text) => self.text(&text, scene, out),
                Early::Binary(bytes) => self.binary(&bytes, scene, out),
                Early::Refused(fault) => self.error(None, &fault, scene, out),
            }
        }
    }

    /// The place in the log that the client's own cursor names.
    pub(super) fn place(&self, scene: Scene<'_>) -> Option<Cursor> {
        self.since.as_deref().and_then(|since| cursor::read(since, scene.epoch))
    }

    /// The question that makes somebody a member, and the room if there is none.
    pub(super) fn joining(&self, room: &RoomId, who: &Principal) -> Command {
        let entry = if self.own.as_ref() == Some(room) { Entry::Private } else { Entry::Open };
        let card = RoomCard { name: room.as_str().to_owned(), entry, ..RoomCard::default() };
        Command::JoinRoom(JoinRoom {
            room: room.clone(),
            member: who.clone(),
            create: Some(card),
            by_key: false,
        })
    }

    /// Tells the log what is known to have arrived.
    pub(super) fn keep_seat(&mut self, purpose: Waiting, scene: Scene<'_>, out: &mut Outputs) {
        let Some(seat) = self.own.clone() else { return };
        let rooms: BTreeMap<_, _> =
            self.rooms.iter().map(|(id, heard)| (id.clone(), heard.arrived)).collect();
        self.kept.last = scene.now;
        self.kept.due = None;
        // Until it is known to be kept, the secret goes along.
        let secret = (!self.seat_kept).then(|| hash(&self.secret));
        let keep = KeepSeat { seat, secret, epoch: self.epoch, seen: self.feed.arrived, rooms };
        self.ask(Command::KeepSeat(keep), purpose, out);
    }

    /// Whether another connection of the same user may be in a room. Connections of other kinds are taken to be.
    pub(super) fn others_in(&self, room: &RoomId, state: &State) -> bool {
        let Some(presence) = self.who.as_ref().and_then(|who| state.presence(who)) else { return false };
        let mut others = presence.connections.iter().filter(|c| **c != self.connection);
        let inside =
            |c: &ConnectionId| state.seat_of(*c).is_none_or(|(_, seat)| seat.rooms.contains_key(room));
        others.by_ref().take(MAX_LOOKED_AT).any(inside) || others.next().is_some()
    }

    /// Whether another open connection sits in the same seat; then the seat is for that one to keep.
    fn seat_shared(&self, who: &Principal, state: &State) -> bool {
        let seat = self.own.as_ref().and_then(|id| state.seat(id));
        let (Some(seat), Some(presence)) = (seat, state.presence(who)) else { return false };
        let mut others = seat.connections.iter().filter(|c| **c != self.connection);
        others.any(|c| presence.connections.contains(c))
    }

    /// Says goodbye: open rooms that no other connection of the user is in are left, and the seat is kept for coming back.
    pub(super) fn go(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.phase = Phase::Over;
        let Some(who) = self.who.clone() else { return };
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            let open = scene.state.room(&room).is_some_and(|r| r.card.entry == Entry::Open);
            if open && !self.others_in(&room, scene.state) {
                self.ask(Command::LeaveRoom(room, who.clone()), Waiting::Nothing, out);
            }
        }
        if !self.seat_shared(&who, scene.state) {
            self.keep_seat(Waiting::Nothing, scene, out);
        }
        self.ask(Command::Disconnect, Waiting::Nothing, out);
    }
}

/// What stands in a query: a token or a key as `token`, a key as `api_key`.
pub(super) fn shown(token: Option<String>, api_key: Option<String>) -> Option<Proof> {
    token.map(|text| Proof::Bearer(Family::Login, text)).or_else(|| api_key.map(Proof::ApiKey))
}

/// What the log keeps of a secret.
pub(super) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The seat that a secret opens.
fn opened_by<'a>(secret: &str, scene: Scene<'a>) -> Option<(&'a RoomId, &'a Seat)> {
    scene.state.seat_opened_by(&hash(secret), secret, scene.now)
}

/// A room of a connection's own, whose id tells nothing of the secret that is drawn with it.
fn own_room_of(random: u128) -> Option<RoomId> {
    let digest = Sha256::new().chain_update("room of a seat\0").chain_update(random.to_be_bytes()).finalize();
    let digits: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    RoomId::new(&format!("{OWN_PREFIX}{digits}")).ok()
}

/// The first credential that is there decides (MegaBot notes §1).
fn credential(opening: &Opening<'_>) -> Option<Proof> {
    let in_query = |name| query_value(opening.query, name);
    if let Some(proof) = shown(in_query("token"), in_query("api_key")) {
        return Some(proof);
    }
    if let Some(token) = opening.authorization.and_then(bearer) {
        return Some(Proof::Bearer(Family::Login, token.to_owned()));
    }
    opening.api_key.map(|key| Proof::ApiKey(key.to_owned()))
}
