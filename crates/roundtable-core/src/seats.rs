//! Seats: places that a client can come back to after a break, with what had reached it there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision};
use crate::error::Error;
use crate::event::Event;
use crate::ids::{ConnectionId, Principal, RoomId};
use crate::limits;
use crate::state::State;
use crate::time::{Offset, Time};

/// A place that its owner can come back to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Seat {
    /// Who sits there.
    pub owner: Principal,
    /// Which writing of the log the offsets belong to.
    pub epoch: u32,
    /// What reached it of everything that is not said in a room.
    pub seen: Offset,
    /// The rooms it hears, each with the last record that reached it.
    pub rooms: BTreeMap<RoomId, Offset>,
    /// The newest connections that used it, oldest first, at most [`limits::MAX_SEAT_CONNECTIONS`].
    pub connections: Vec<ConnectionId>,
    /// When it was kept last, in log time; a day later it is forgotten.
    pub kept_at: Time,
    /// SHA-256 of what opens it, 64 hex digits each, the newest last. None: a seat of 0.1.0, which its id opens.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Until when its id opens it all the same, since it was a seat of 0.1.0.
    #[serde(default)]
    pub by_id_until: Option<Time>,
}

/// Event: a connection took a seat, or told what has reached it there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeatKept {
    /// Which. The room of the same name, if there is one, is its owner's own.
    pub seat: RoomId,
    /// SHA-256 of something that opens it from now on, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Which connection.
    pub connection: ConnectionId,
    /// Which writing of the log the offsets belong to.
    pub epoch: u32,
    /// What reached it of everything that is not said in a room.
    pub seen: Offset,
    /// The rooms it hears, each with the last record that reached it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rooms: BTreeMap<RoomId, Offset>,
    /// The owner's own room is heard for the first time while others sit there too, so they are told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opened: bool,
}

/// Command: take a seat or say what has reached it. Forbidden if it is somebody else's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct KeepSeat {
    /// Which.
    pub seat: RoomId,
    /// SHA-256 of something that is to open it too, 64 hex digits.
    pub secret: Option<String>,
    /// Which writing of the log the offsets belong to.
    pub epoch: u32,
    /// What reached it of everything that is not said in a room.
    pub seen: Offset,
    /// The rooms it hears, each with the last record that reached it.
    pub rooms: BTreeMap<RoomId, Offset>,
}

pub(crate) fn keep(state: &State, ctx: &Context, command: &KeepSeat) -> Result<Decision, Error> {
    let Some(connection) = ctx.connection else {
        return Err(Error::forbidden("a seat is kept by a connection"));
    };
    if matches!(ctx.actor, Principal::Visitor(_) | Principal::Node(_)) {
        return Err(Error::forbidden("visitors and nodes keep no seats"));
    }
    let before = state.seat(&command.seat);
    if before.is_some_and(|seat| seat.owner != ctx.actor) {
        return Err(Error::forbidden("the seat is taken"));
    }
    if command.secret.as_ref().is_some_and(|hash| hash.len() != 64) {
        return Err(Error::invalid("secret", "must be a SHA-256 in hex"));
    }
    if command.rooms.len() > limits::MAX_SEAT_ROOMS {
        return Err(Error::invalid("rooms", "are too many for one seat"));
    }
    let here = |c: &ConnectionId| state.presence(&ctx.actor).is_some_and(|p| p.connections.contains(c));
    let shared = |seat: &Seat| seat.connections.iter().any(|c| *c != connection && here(c));
    let opens =
        |seat: &Seat| !seat.rooms.contains_key(&command.seat) && command.rooms.contains_key(&command.seat);
    Ok(Decision::of(Event::SeatKept(SeatKept {
        opened: before.is_some_and(|seat| opens(seat) && shared(seat)),
        seat: command.seat.clone(),
        secret: command.secret.clone(),
        connection,
        epoch: command.epoch,
        seen: command.seen,
        rooms: command.rooms.clone(),
    })))
}

impl Seat {
    /// The seat after an event about it; `before` is how it was.
    pub(crate) fn after(before: Option<&Self>, event: &SeatKept, owner: &Principal, now: Time) -> Self {
        let mut connections = before.map(|seat| seat.connections.clone()).unwrap_or_default();
        if !connections.contains(&event.connection) {
            connections.push(event.connection);
        }
        if connections.len() > limits::MAX_SEAT_CONNECTIONS {
            connections.remove(0);
        }
        let mut secrets = before.map(|seat| seat.secrets.clone()).unwrap_or_default();
        let mut by_id_until = before.and_then(|seat| seat.by_id_until);
        if let Some(secret) = event.secret.as_ref().filter(|secret| !secrets.contains(secret)) {
            if before.is_some() && secrets.is_empty() {
                by_id_until = Some(now.plus(limits::SEAT_MS));
            }
            secrets.push(secret.clone());
            if secrets.len() > limits::MAX_SEAT_SECRETS {
                secrets.remove(0);
            }
        }
        Self {
            secrets,
            by_id_until,
            owner: owner.clone(),
            epoch: event.epoch,
            seen: event.seen,
            rooms: event.rooms.clone(),
            connections,
            kept_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::KeepSeat;
    use crate::command::Command;
    use crate::engine::{Context, decide};
    use crate::error::ErrorKind;
    use crate::event::Record;
    use crate::ids::{ConnectionId, GuestId, Principal, RoomId};
    use crate::limits;
    use crate::state::State;
    use crate::time::{Offset, Time};

    fn guest(name: &str) -> Principal {
        Principal::Guest(GuestId::new(name).unwrap())
    }

    fn keep(state: &mut State, who: &Principal, seat: &str, at: i64) -> Result<(), ErrorKind> {
        let seat = RoomId::new(seat).unwrap();
        let rooms = BTreeMap::from([(RoomId::new("lobby").unwrap(), state.head)]);
        let secret = Some(format!("{:0>64}", seat.as_str()));
        let command = Command::KeepSeat(KeepSeat { seat, secret, epoch: 1, seen: state.head, rooms });
        let ctx = Context {
            now: Time(at),
            at: Time(at),
            actor: who.clone(),
            by: who.clone(),
            connection: Some(ConnectionId(state.head.0 + 1)),
            random: 0,
            client: None,
        };
        let decision = decide(state, &command, &ctx).map_err(|e| e.kind)?;
        for (room, event) in decision.events {
            state.apply(&Record {
                offset: state.head.next(),
                room_seq: None,
                at: ctx.now,
                t: ctx.now,
                actor: who.clone(),
                room,
                client: None,
                event,
            });
        }
        Ok(())
    }

    #[test]
    fn a_seat_belongs_to_who_took_it() {
        let mut state = State::default();
        keep(&mut state, &guest("ada"), "s", 1).unwrap();
        keep(&mut state, &guest("ada"), "s", 2).unwrap();
        assert_eq!(keep(&mut state, &guest("bob"), "s", 3), Err(ErrorKind::Forbidden));
        let seat = state.seat(&RoomId::new("s").unwrap()).unwrap();
        assert_eq!(seat.owner, guest("ada"));
        assert_eq!(seat.connections.as_slice(), [ConnectionId(1), ConnectionId(2)]);
        assert_eq!(state.seat_of(ConnectionId(1)), Some((&RoomId::new("s").unwrap(), seat)));
        assert_eq!(seat.rooms.values().copied().collect::<Vec<_>>(), [Offset(1)]);
    }

    #[test]
    fn a_day_after_it_was_kept_last_a_seat_is_forgotten() {
        let mut state = State::default();
        keep(&mut state, &guest("ada"), "old", 0).unwrap();
        keep(&mut state, &guest("ada"), "kept", 0).unwrap();
        keep(&mut state, &guest("ada"), "kept", 10).unwrap();
        keep(&mut state, &guest("bob"), "new", limits::SEAT_MS + 1).unwrap();
        assert!(state.seat(&RoomId::new("old").unwrap()).is_none());
        assert!(state.seat_of(ConnectionId(1)).is_none());
        assert!(state.seat(&RoomId::new("kept").unwrap()).is_some());
        assert_eq!(keep(&mut state, &guest("bob"), "old", limits::SEAT_MS + 2), Ok(()));
    }

    #[test]
    fn a_seat_opens_by_its_secrets_and_one_of_before_by_its_id_for_a_day_more() {
        let mut state = State::default();
        keep(&mut state, &guest("ada"), "new", 1).unwrap();
        let id = |text: &str| RoomId::new(text).unwrap();
        let opened = |state: &State, hash: &str, text: &str, at| {
            state.seat_opened_by(hash, text, Time(at)).map(|(id, _)| id.to_string())
        };
        let hash = |text: &str| format!("{text:0>64}");
        assert_eq!(opened(&state, &hash("new"), "?", 2).as_deref(), Some("new"));
        assert_eq!(opened(&state, "?", "new", 2), None, "its id opens nothing");
        // As 0.1.0 wrote it.
        let body = r#"{"seat":"old","connection":7,"epoch":1,"seen":0}"#;
        let event = crate::event::Event::read("seat.kept", body).unwrap();
        let (offset, actor) = (state.head.next(), guest("ada"));
        let (at, t) = (Time(3), Time(3));
        state.apply(&Record { offset, room_seq: None, at, t, actor, room: None, client: None, event });
        assert_eq!(opened(&state, "?", "old", 4).as_deref(), Some("old"));
        keep(&mut state, &guest("ada"), "old", 5).unwrap();
        assert_eq!(opened(&state, &hash("old"), "?", 6).as_deref(), Some("old"));
        assert_eq!(opened(&state, "?", "old", limits::SEAT_MS).as_deref(), Some("old"));
        assert_eq!(opened(&state, "?", "old", limits::SEAT_MS + 6), None);
        assert_eq!(state.seat(&id("old")).unwrap().secrets, [hash("old")]);
    }
}
