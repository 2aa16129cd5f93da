//! Seats, in the state: by their ids, by what opens them, by their connections and by age.

use std::sync::Arc;

use super::State;
use crate::event::Record;
use crate::ids::{ConnectionId, RoomId};
use crate::limits;
use crate::seats::{Seat, SeatKept};
use crate::time::Time;

impl State {
    /// A seat that is not forgotten.
    pub fn seat(&self, id: &RoomId) -> Option<&Seat> {
        self.seats.get(id).map(|s| &**s)
    }

    /// The seat that a connection took, until it is forgotten.
    pub fn seat_of(&self, connection: ConnectionId) -> Option<(&RoomId, &Seat)> {
        let id = self.seats_by_connection.get(&connection)?;
        self.seat(id).map(|seat| (id, seat))
    }

    /// The seat that a secret opens, given by its SHA-256 in hex. A seat of 0.1.0 is opened by its id, `text`, until it has
    /// had a secret for a day.
    pub fn seat_opened_by(&self, hash: &str, text: &str, now: Time) -> Option<(&RoomId, &Seat)> {
        let by_id = || {
            let (id, seat) = self.seats.get_key_value(text)?;
            (seat.secrets.is_empty() || seat.by_id_until.is_some_and(|until| now < until)).then_some(id)
        };
        let by_id = || by_id().and_then(|id| self.seat(id).map(|seat| (id, seat)));
        self.seat_of_secret(hash).or_else(by_id)
    }

    /// The seat that a secret opens, given by its SHA-256 in hex.
    pub fn seat_of_secret(&self, hash: &str) -> Option<(&RoomId, &Seat)> {
        let id = self.seats_by_secret.get(hash)?;
        self.seat(id).map(|seat| (id, seat))
    }

    pub(super) fn forget_oldest_seat(&mut self) {
        if let Some((_, id)) = self.seats_by_age.remove_min()
            && let Some(seat) = self.seats.remove(&id)
        {
            self.stand_up(&seat);
        }
    }

    fn stand_up(&mut self, seat: &Seat) {
        for connection in &seat.connections {
            self.seats_by_connection.remove(connection);
        }
        for secret in &seat.secrets {
            self.seats_by_secret.remove(secret);
        }
    }

    pub(super) fn keep_seat(&mut self, event: &SeatKept, record: &Record) {
        let before = self.seats.remove(&event.seat);
        if let Some(seat) = &before {
            self.seats_by_age.remove(&(seat.kept_at, event.seat.clone()));
            self.stand_up(seat);
        }
        let seat = Seat::after(before.as_deref(), event, &record.actor, record.t);
        for connection in &seat.connections {
            self.seats_by_connection.insert(*connection, event.seat.clone());
        }
        for secret in &seat.secrets {
            self.seats_by_secret.insert(secret.clone(), event.seat.clone());
        }
        self.seats.insert(event.seat.clone(), Arc::new(seat));
        self.seats_by_age.insert((record.t, event.seat.clone()));
        if self.seats.len() > limits::MAX_SEATS {
            self.forget_oldest_seat();
        }
    }
}
