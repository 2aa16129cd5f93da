//! What records of version 0.1.0 mean now.
//!
//! There a visitor of a site was a guest like those on loopback listeners, and its conversation with an agent a room like any
//! other. A guest that a token was noted for is the visitor of that token's agent; a room for members that a guest made is a
//! visitor's conversation, since guests made no other rooms of this kind; what a guest of this name did in it, the visitor did.

use serde::Deserialize;

use super::State;
use crate::event::{Event, Record};
use crate::ids::{AgentId, GuestId, Principal, VisitorId};
use crate::rooms::{Entry, RoomCreated};

/// How a conversation of two told of its agent.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "agentId")]
    agent: AgentId,
}

impl State {
    /// The record as it is meant now, if that differs from what it says.
    pub(super) fn meant_now(&self, record: &Record) -> Option<Record> {
        match &record.event {
            Event::TokenNoted(noted) => {
                let Principal::Guest(guest) = &noted.bearer else { return None };
                let bearer = visitor(&noted.agent, guest)?;
                let event = Event::TokenNoted(crate::users::TokenNoted { bearer, ..noted.clone() });
                Some(Record { event, ..record.clone() })
            }
            Event::RoomCreated(created) => {
                let event = Event::RoomCreated(pair_made(created)?);
                Some(self.done_by_visitor(Record { event, ..record.clone() }))
            }
            Event::RoomJoined(_)
            | Event::RoomLeft(_)
            | Event::RoomRead(_)
            | Event::RoomActed(_)
            | Event::MessagePosted(_)
                if self.visitor_of(record).is_some() =>
            {
                Some(self.done_by_visitor(record.clone()))
            }
            _ => None,
        }
    }

    /// The visitor whose conversation the record belongs to.
    fn visitor_of(&self, record: &Record) -> Option<&VisitorId> {
        match self.room(record.room.as_ref()?).map(|room| &room.owner) {
            Some(Principal::Visitor(visitor)) => Some(visitor),
            _ => None,
        }
    }

    fn done_by_visitor(&self, mut record: Record) -> Record {
        let visitor = match &record.event {
            Event::RoomCreated(RoomCreated { owner: Principal::Visitor(visitor), .. }) => {
                Some(visitor.clone())
            }
            _ => self.visitor_of(&record).cloned(),
        };
        let Some(visitor) = visitor else { return record };
        let meant = |who: &mut Principal| {
            if matches!(who, Principal::Guest(guest) if guest.as_str() == visitor.name()) {
                *who = Principal::Visitor(visitor.clone());
            }
        };
        meant(&mut record.actor);
        match &mut record.event {
            Event::RoomJoined(e) => {
                meant(&mut e.member);
                e.by.iter_mut().for_each(meant);
            }
            Event::RoomLeft(e) => meant(&mut e.member),
            Event::RoomRead(e) => meant(&mut e.member),
            Event::RoomActed(e) => meant(&mut e.who),
            Event::MessagePosted(e) => meant(&mut e.from),
            _ => {}
        }
        record
    }
}

fn visitor(agent: &AgentId, guest: &GuestId) -> Option<Principal> {
    VisitorId::new(agent, guest.as_str()).ok().map(Principal::Visitor)
}

/// A conversation of two that does not say so.
fn pair_made(created: &RoomCreated) -> Option<RoomCreated> {
    let card = &created.card;
    if card.pair.is_some() || card.entry != Entry::Members {
        return None;
    }
    let agent = card.metadata.read::<Named>()?.agent;
    let owner = match &created.owner {
        Principal::Guest(guest) => visitor(&agent, guest)?,
        owner @ Principal::User(_) if card.name == format!("Conversation with agent {agent}") => {
            owner.clone()
        }
        _ => return None,
    };
    let card = crate::rooms::RoomCard { pair: Some(agent), ..card.clone() };
    Some(RoomCreated { card, owner })
}

#[cfg(test)]
mod tests {
    use crate::event::{Event, Record};
    use crate::ids::{AgentId, Principal, RoomId};
    use crate::state::State;
    use crate::time::{Offset, Time};

    /// Applies records as 0.1.0 wrote them: room, actor, kind, body.
    fn log(lines: &[(Option<&str>, &str, &str, &str)]) -> State {
        let mut state = State::default();
        for (room, actor, kind, body) in lines {
            state.apply(&Record {
                offset: Offset(state.head.0 + 1),
                room_seq: None,
                at: Time(1_000),
                t: Time(1_000),
                actor: Principal::parse(actor).unwrap(),
                room: room.map(|id| RoomId::new(id).unwrap()),
                client: None,
                event: Event::read(kind, body).unwrap(),
            });
        }
        state
    }

    #[test]
    fn a_visitor_that_was_a_guest_keeps_its_conversation_and_no_guest_gets_it() {
        let card = r#"{"card":{"name":"Conversation with agent a","metadata":{"agentId":"a"},"entry":"members"},"owner":"OWNER"}"#;
        let guests = card.replace("OWNER", "guest:v");
        let users = card.replace("OWNER", "user:ann");
        let state = log(&[
            (None, "system", "agent.registered", r#"{"agent":"a","card":{"name":"A"}}"#),
            (
                None,
                "system",
                "token.noted",
                r#"{"jti":"t","bearer":"guest:v","agent":"a","expires_at":9000}"#,
            ),
            (Some("r"), "guest:v", "room.created", &guests),
            (Some("r"), "guest:v", "room.joined", r#"{"member":"guest:v"}"#),
            (Some("r"), "guest:v", "room.joined", r#"{"member":"agent:a","by":"guest:v"}"#),
            (Some("u"), "user:ann", "room.created", &users),
            (Some("u"), "user:ann", "room.joined", r#"{"member":"user:ann"}"#),
        ]);
        let [visitor, guest, agent] =
            ["visitor:a/v", "guest:v", "agent:a"].map(|who| Principal::parse(who).unwrap());
        let (a, r, u) = (AgentId::new("a").unwrap(), RoomId::new("r").unwrap(), RoomId::new("u").unwrap());
        let room = state.room(&r).unwrap();
        assert_eq!(room.owner, visitor);
        assert_eq!(room.members.keys().collect::<Vec<_>>(), [&agent, &visitor]);
        assert_eq!(state.pair(&visitor, &a), Some(&r));
        assert_eq!(state.pair(&Principal::parse("user:ann").unwrap(), &a), Some(&u));
        assert_eq!(state.noted_token("t").unwrap().noted.bearer, visitor);
        assert!(!crate::access::may_join_room(&state, room, &guest, &guest));
        assert!(crate::access::may_join_room(&state, room, &visitor, &visitor));
    }
}
