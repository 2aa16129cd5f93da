//! What stays in the state is bounded: every text and object has a limit that holds for what a decision would leave behind,
//! so that many small changes make nothing larger than one large change may.

use crate::agents::AgentCard;
use crate::alerts::{AlertRaised, SecurityNoticed};
use crate::cluster::NodeJoined;
use crate::components::HealthChanged;
use crate::engine::Decision;
use crate::error::Error;
use crate::event::Event;
use crate::ids::RoomId;
use crate::json::{Json, deeper_than};
use crate::limits;
use crate::messages::{Content, DirectMessage, Message};
use crate::rooms::RoomCard;
use crate::state::State;
use crate::thresholds::Threshold;

/// Fails with `InvalidField` when something that a decision leaves in the state, or any JSON in it, is beyond its limit.
pub(crate) fn check(state: &State, decision: &Decision) -> Result<(), Error> {
    decision.events.iter().try_for_each(|(room, event)| fits(state, room.as_ref(), event))
}

/// Fails unless what a client carries as metadata is an object.
pub(crate) fn is_object(metadata: Option<&Json>) -> Result<(), Error> {
    if metadata.is_some_and(|json| !json.as_str().trim_start().starts_with('{')) {
        return Err(Error::invalid("metadata", "must be an object"));
    }
    Ok(())
}

fn fits(state: &State, room: Option<&RoomId>, event: &Event) -> Result<(), Error> {
    match event {
        Event::WorkspaceCreated(e) => short("name", &e.name).and(short("domain_key", &e.domain_key_hash)),
        Event::DomainKeySet(e) => short("domain_key", &e.domain_key_hash),
        Event::NodeJoined(e) => node(e),
        Event::NodeKeySet(e) => {
            optional("key", e.key.as_deref(), text).and(optional("from", e.from.as_deref(), short))
        }
        Event::UserAdded(e) => optional("password", e.password.as_deref(), text),
        Event::UserChanged(e) => optional("password", e.password.as_deref(), text),
        Event::KeyAdded(e) => short("name", &e.name).and(short("hash", &e.hash)),
        Event::TokenRevoked(e) => short("jti", &e.jti),
        Event::TokenNoted(e) => short("jti", &e.jti),
        Event::AgentRegistered(e) => agent(&e.card),
        Event::AgentUpdated(e) => state.agent(&e.agent).map_or(Ok(()), |known| {
            let mut changed = known.clone();
            changed.change(&e.changes);
            agent(&changed.card)
        }),
        Event::AgentSecretSet(e) => text("secret", &e.hash),
        Event::RoomCreated(e) => card(&e.card),
        Event::RoomUpdated(e) => room.and_then(|id| state.room(id)).map_or(Ok(()), |known| {
            let mut changed = known.clone();
            changed.change(e);
            card(&changed.card)
        }),
        Event::RoomSummarised(e) => text("summary", &e.summary),
        Event::RoomActed(e) => object("data", e.data.as_ref(), limits::MAX_CONTENT_BYTES),
        Event::MessagePosted(e) => posted(e),
        Event::MessageDirect(e) => direct(e),
        Event::PresenceConnected(e) => optional("platform", e.platform.as_deref(), short),
        Event::AlertRaised(e) => alert(e),
        Event::ThresholdSet(e) => threshold(e),
        Event::HealthChanged(e) => health(e),
        Event::SecurityNoticed(e) => notice(e),
        // Seats have limits of their own, which say what is forgotten first.
        Event::SeatKept(_) => Ok(()),
        // Nothing of these that a client writes stays in the state.
        Event::ServerStarted(_)
        | Event::NodeLeft(_)
        | Event::UserRemoved(_)
        | Event::KeyRevoked(_)
        | Event::AgentStatusChanged(_)
        | Event::AgentRemoved(_)
        | Event::RoomJoined(_)
        | Event::RoomInvited(_)
        | Event::RoomLeft(_)
        | Event::RoomRead(_)
        | Event::RoomRemoved(_)
        | Event::MessageDeleted(_)
        | Event::MessageDelivered(_)
        | Event::MessageExpired(_)
        | Event::PresenceReached(_)
        | Event::PresenceDisconnected(_)
        | Event::AlertAcknowledged(_)
        | Event::AlertCleared(_)
        | Event::ThresholdRemoved(_)
        | Event::FaultNoticed(_)
        | Event::BlockEnded(_)
        | Event::FeedMarked(_) => Ok(()),
    }
}

fn agent(card: &AgentCard) -> Result<(), Error> {
    short("name", &card.name)?;
    short("type", &card.kind)?;
    optional("model", card.model.as_deref(), short)?;
    optional("role", card.role.as_deref(), text)?;
    optional("description", card.description.as_deref(), text)?;
    if card.capabilities.len() > limits::MAX_CAPABILITIES {
        return Err(Error::invalid("capabilities", "must be at most 256"));
    }
    card.capabilities.iter().try_for_each(|capability| short("capabilities", &capability.name))?;
    object("metadata", Some(&card.metadata), limits::MAX_METADATA_BYTES)?;
    object("settings", card.config.as_ref(), limits::MAX_CONFIG_BYTES)
}

fn card(card: &RoomCard) -> Result<(), Error> {
    short("name", &card.name)?;
    text("description", &card.description)?;
    object("metadata", Some(&card.metadata), limits::MAX_METADATA_BYTES)?;
    object("options", card.options.as_ref(), limits::MAX_METADATA_BYTES)
}

fn short(field: &'static str, value: &str) -> Result<(), Error> {
    if value.chars().count() <= limits::MAX_NAME_CHARS {
        return Ok(());
    }
    Err(Error::invalid(field, "must be at most 200 characters"))
}

fn text(field: &'static str, value: &str) -> Result<(), Error> {
    if value.len() <= limits::MAX_DESCRIPTION_BYTES {
        return Ok(());
    }
    Err(Error::invalid(field, "must be at most 16 KiB"))
}

fn optional(
    field: &'static str,
    value: Option<&str>,
    check: fn(&'static str, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    value.map_or(Ok(()), |value| check(field, value))
}

fn many(field: &'static str, values: &[String], most: usize) -> Result<(), Error> {
    if values.len() > most {
        return Err(Error::invalid(field, &format!("must be at most {most}")));
    }
    values.iter().try_for_each(|value| short(field, value))
}

fn object(field: &'static str, value: Option<&Json>, most: usize) -> Result<(), Error> {
    let Some(json) = value else { return Ok(()) };
    if json.as_str().len() > most {
        return Err(Error::invalid(field, &format!("must be at most {} KiB", most >> 10)));
    }
    shallow(field, json)
}

fn shallow(field: &'static str, json: &Json) -> Result<(), Error> {
    if deeper_than(json.as_str(), limits::MAX_DEPTH) {
        return Err(Error::invalid(field, "must be nested at most 100 deep"));
    }
    Ok(())
}

fn content(content: &Content) -> Result<(), Error> {
    match content {
        Content::Json(json) => shallow("content", json),
        Content::Text(_) | Content::Base64(_) => Ok(()),
    }
}

fn posted(e: &Message) -> Result<(), Error> {
    content(&e.content)?;
    object("parts", e.parts.as_ref(), usize::MAX)?;
    object("metadata", e.metadata.as_ref(), usize::MAX)
}

fn direct(e: &DirectMessage) -> Result<(), Error> {
    content(&e.content)?;
    object("metadata", e.metadata.as_ref(), usize::MAX)
}

fn alert(e: &AlertRaised) -> Result<(), Error> {
    short("source", &e.source)?;
    text("title", &e.title)?;
    text("message", &e.message)?;
    object("details", Some(&e.details), limits::MAX_METADATA_BYTES)
}

fn notice(e: &SecurityNoticed) -> Result<(), Error> {
    [("rule", &e.rule), ("source", &e.source), ("severity", &e.severity)]
        .into_iter()
        .try_for_each(|(field, value)| short(field, value))?;
    optional("place", e.place.as_deref(), short)?;
    text("message", &e.message)?;
    object("evidence", Some(&e.evidence), limits::MAX_METADATA_BYTES)
}

fn node(e: &NodeJoined) -> Result<(), Error> {
    short("address", &e.address)?;
    short("kind", &e.kind)?;
    many("capabilities", &e.capabilities, limits::MAX_CAPABILITIES)
}

fn threshold(e: &Threshold) -> Result<(), Error> {
    short("name", &e.name)?;
    short("metric", &e.metric)?;
    many("channels", &e.channels, limits::MAX_CHANNELS)
}

fn health(e: &HealthChanged) -> Result<(), Error> {
    short("component", &e.component)?;
    text("reason", &e.reason)?;
    many("affects", &e.affects, limits::MAX_CAPABILITIES)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::fits;
    use crate::event::{Event, Record};
    use crate::ids::{Principal, RoomId};
    use crate::state::State;
    use crate::time::Time;

    /// An event of every kind that says something, with every text and object that it can have.
    fn samples() -> Vec<(&'static str, Value)> {
        let hash = "0".repeat(64);
        let card = json!({"name": "A", "kind": "k", "role": "r", "model": "m", "description": "d", "metadata": {"m": "x"},
            "capabilities": [{"name": "c"}], "config": {"prompt": "p"}});
        let room = json!({"name": "R", "description": "d", "metadata": {"m": "x"}, "options": {"o": "x"}, "agent": "a"});
        let said = json!({"id": "m1", "from": "agent:a", "from_name": "A", "content": {"text": "t"}, "metadata": {"m": "x"}});
        let alert = json!({"alert": "x", "source": "s", "level": "info", "title": "t", "message": "m", "details": {"d": "x"}});
        let notice = json!({"alert": "x", "finding": "blocked", "rule": "r", "source": "s", "place": "p", "severity": "low",
            "message": "m", "evidence": {"e": "x"}, "until": 99_999});
        vec![
            ("workspace.created", json!({"name": "W", "domain_key_hash": hash})),
            ("workspace.key_set", json!({"domain_key_hash": hash})),
            ("node.joined", json!({"node": "n", "address": "a", "kind": "client", "capabilities": ["c"]})),
            ("node.key_set", json!({"node": "n", "key": "k", "from": "f"})),
            ("user.added", json!({"user": "u", "password": "p"})),
            ("user.changed", json!({"user": "u", "password": "p"})),
            ("key.added", json!({"key": "k", "hash": hash, "opens": {"user": "u"}, "name": "n"})),
            ("token.revoked", json!({"jti": "j", "expires_at": 9})),
            ("agent.registered", json!({"agent": "a", "card": card})),
            ("token.noted", json!({"jti": "j", "bearer": "visitor:a/v", "agent": "a", "expires_at": 99})),
            ("agent.updated", json!({"agent": "a", "changes": card})),
            ("agent.secret_set", json!({"agent": "a", "hash": "h"})),
            ("agent.status_changed", json!({"agent": "a", "old": "offline", "new": "online", "reason": "r"})),
            ("room.created", json!({"card": room, "owner": "agent:a"})),
            ("room.updated", json!({"name": "R", "description": "d", "metadata": {"m": "x"}})),
            ("room.summarised", json!({"summary": "s"})),
            ("room.acted", json!({"who": "agent:a", "action": "edit", "data": {"d": "x"}})),
            ("message.posted", said.clone()),
            (
                "message.direct",
                json!({"id": "m1", "from": "agent:a", "from_name": "A", "to": "agent:a",
                "content": {"text": "t"}, "metadata": {"m": "x"}}),
            ),
            (
                "presence.connected",
                json!({"principal": "agent:a", "connection": 1, "first": true, "platform": "web"}),
            ),
            ("alert.raised", alert),
            (
                "threshold.set",
                json!({"id": "t", "name": "n", "metric": "m", "side": "above", "limit": 1.0, "lasting_ms": 1,
                "level": "info", "channels": ["c"]}),
            ),
            (
                "component.changed",
                json!({"component": "c", "old": "healthy", "new": "unhealthy", "reason": "r",
                "affects": ["a"]}),
            ),
            ("security.noticed", notice),
        ]
    }

    fn apply(state: &mut State, room: Option<&RoomId>, event: Event) {
        let (offset, room_seq) = (state.head.next(), room.map(|id| state.next_in_room(id)));
        let (actor, room) = (Principal::System, room.cloned());
        state.apply(&Record { offset, room_seq, at: Time(1), t: Time(1), actor, room, client: None, event });
    }

    fn size(state: &State) -> usize {
        serde_json::to_vec(state).unwrap().len()
    }

    /// All that can be made large in a value, each replaced by something large.
    fn grown(value: &Value, large: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        let mut inside = |place: String, found: &Value| {
            let whole = if found.is_string() { vec![json!("x".repeat(1 << 20))] } else { Vec::new() };
            let object = if found.is_object() { vec![large.clone()] } else { Vec::new() };
            for part in whole.into_iter().chain(object).chain(grown(found, large)) {
                let mut copy = value.clone();
                *copy.pointer_mut(&place).unwrap() = part;
                all.push(copy);
            }
        };
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(key, found)| inside(format!("/{key}"), found))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, found)| inside(format!("/{n}"), found))
            }
            _ => {}
        }
        all
    }

    #[test]
    fn no_text_or_object_of_any_event_makes_the_state_large() {
        let room = RoomId::new("r").unwrap();
        let mut state = State::default();
        let mut large = json!({});
        for n in 0..300 {
            large[format!("k{n}")] = json!("x".repeat(1_000));
        }
        let (mut tried, mut refused) = (0, 0);
        for (kind, body) in samples() {
            let of_room = (kind.starts_with("room.") || kind == "message.posted").then_some(&room);
            let event = |body: &Value| Event::read(kind, &body.to_string());
            fits(&state, of_room, &event(&body).unwrap()).unwrap();
            for body in grown(&body, &large) {
                tried += 1;
                let Ok(event) = event(&body) else { continue };
                if fits(&state, of_room, &event).is_err() {
                    refused += 1;
                    continue;
                }
                let mut after = state.clone();
                apply(&mut after, of_room, event);
                assert!(size(&after) < size(&state) + 100_000, "{kind} keeps {}", &body.to_string()[..200]);
            }
            apply(&mut state, of_room, event(&body).unwrap());
        }
        assert!(refused > 50 && tried > refused, "{refused} of {tried}");
    }

    #[test]
    fn many_small_changes_make_nothing_larger_than_one_large_change_may() {
        let room = RoomId::new("r").unwrap();
        let mut state = State::default();
        for (kind, body) in samples() {
            if ["agent.registered", "room.created"].contains(&kind) {
                let of_room = (kind == "room.created").then_some(&room);
                apply(&mut state, of_room, Event::read(kind, &body.to_string()).unwrap());
            }
        }
        for (kind, of_room) in [("room.updated", Some(&room)), ("agent.updated", None)] {
            let mut taken = 0;
            for n in 0..60 {
                let metadata = json!({format!("k{n}"): "x".repeat(60_000)});
                let body = if of_room.is_some() {
                    json!({"metadata": metadata})
                } else {
                    json!({"agent": "a", "changes": {"metadata": metadata}})
                };
                let event = Event::read(kind, &body.to_string()).unwrap();
                if fits(&state, of_room, &event).is_ok() {
                    apply(&mut state, of_room, event);
                    taken += 1;
                }
            }
            assert_eq!(taken, 1, "{kind}");
        }
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused_before_it_is_answered() {
        let room = RoomId::new("r").unwrap();
        for (depth, taken) in [(99, true), (101, false), (126, false)] {
            let deep = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
            for (kind, of_room, body) in [
                (
                    "room.created",
                    Some(&room),
                    format!(r#"{{"card":{{"name":"R","metadata":{deep}}},"owner":"agent:a"}}"#),
                ),
                (
                    "agent.registered",
                    None,
                    format!(r#"{{"agent":"a","card":{{"name":"A","config":{deep}}}}}"#),
                ),
                (
                    "message.posted",
                    Some(&room),
                    format!(r#"{{"id":"m","from":"agent:a","from_name":"A","content":{{"json":{deep}}}}}"#),
                ),
            ] {
                let event = Event::read(kind, &body).unwrap();
                assert_eq!(fits(&State::default(), of_room, &event).is_ok(), taken, "{kind} {depth}");
            }
        }
    }
}
