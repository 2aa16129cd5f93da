//! REST of conversations: making, listing, changing and ending them, and who takes part (notes §4, §10).

use roundtable_core::access;
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::ids::{AgentId, Principal, RoomId, UserId};
use roundtable_core::json::Json;
use roundtable_core::rooms::{CreateRoom, Entry, Room, RoomCard, RoomStatus, RoomUpdated};
use roundtable_core::state::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::encode::{self, conversation};
use super::{Answer, Failure, ask, bearer_of, body, lists, nothing_here, start, state_of};
use crate::pages::{MOST_ITEMS, fill};
use crate::rest::{Desk, PageOf, Request, Response};
use crate::session::{Ask, Identity, Token, query_value};

pub(super) async fn handle(parts: &[&str], request: &Request<'_>, desk: &impl Desk) -> Answer {
    let who = bearer_of(request, desk).await?;
    match (request.method, parts) {
        ("GET", []) => {
            let state = state_of(&who, desk)?;
            let shown = |room: &Room| document(room, &who);
            lists::page(request, desk, readable(&state, &who), shown, shown).await
        }
        ("POST", []) => create(request, &who, desk).await,
        ("GET", ["my-conversations"]) => newest_first(request, &who, (desk, &who.principal), |_| true),
        ("GET", ["agent", id]) => match AgentId::new(id) {
            Err(_) => Ok(lists::bare(request, &[], None)),
            // It is in all conversations that it serves.
            Ok(agent) => newest_first(request, &who, (desk, &Principal::Agent(agent)), |room| {
                encode::served_by(room).as_deref() == Some(*id)
            }),
        },
        ("GET", [id]) => {
            let state = state_of(&who, desk)?;
            Ok(Response::json(200, &document(readable_room(&state, id, &who)?, &who)))
        }
        ("PUT", [id]) => change(id, request, &who, desk).await,
        ("DELETE", [id]) => {
            let deleted = Json::of(&json!({ "isDeleted": true }));
            let changes = RoomUpdated {
                status: Some(RoomStatus::Closed),
                metadata: Some(deleted),
                ..RoomUpdated::default()
            };
            update(id, changes, &who, desk).await?;
            Ok(super::nothing())
        }
        ("POST", [id, "archive"]) => end(id, RoomStatus::Archived, &who, desk).await,
        ("POST", [id, "close"]) => end(id, RoomStatus::Closed, &who, desk).await,
        ("POST", [id, "participants"]) => invite(id, request, &who, desk).await,
        ("DELETE", [id, "participants", kind, member]) => expel(id, (kind, member), &who, desk).await,
        ("POST", [id, "summary"]) => summary(id, &who, desk).await,
        _ => Err(nothing_here(request)),
    }
}

fn document(room: &Room, who: &Identity) -> Value {
    serde_json::to_value(conversation(room, who.workspace.as_str())).unwrap_or_default()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Marks {
    is_deleted: bool,
}

/// Whether somebody may read a room: its participants, who runs the organisation, and anybody in it if it is open.
fn may_read(state: &State, room: &Room, who: &Principal) -> bool {
    // What is deleted is closed too: of others the metadata need not be read.
    let marked = || room.card.metadata.read::<Marks>().is_some_and(|marks| marks.is_deleted);
    access::may_join_room(state, room, who, who) && !(room.status == RoomStatus::Closed && marked())
}

fn readable<'a>(state: &'a State, who: &'a Identity) -> impl Iterator<Item = &'a Room> {
    state.rooms().filter(|room| may_read(state, room, &who.principal))
}

/// The conversation of a path. One that may not be read and one that does not exist are the same.
pub(super) fn readable_room<'a>(state: &'a State, id: &str, who: &Identity) -> Result<&'a Room, Failure> {
    let found = RoomId::new(id).ok().and_then(|id| state.room(&id));
    let shown: String = id.chars().take(128).collect();
    found
        .filter(|room| may_read(state, room, &who.principal))
        .ok_or_else(|| Failure::new(404, format!("Conversation with ID {shown} not found")))
}

/// Some of the conversations that somebody is in. What comes after them is in the `Link` header.
fn newest_first(
    request: &Request<'_>,
    who: &Identity,
    (desk, inside): (&impl Desk, &Principal),
    wanted: impl Fn(&Room) -> bool,
) -> Answer {
    let state = state_of(who, desk)?;
    let status = status_named(query_value(request.query, "status"))?;
    let part = lists::Part::of(request, MOST_ITEMS)?;
    let rooms = state.rooms_of(inside).filter_map(|id| state.room(id));
    let fits = |room: &&Room| {
        status.is_none_or(|status| room.status == status)
            && may_read(&state, room, &who.principal)
            && wanted(room)
    };
    let mut rooms: Vec<&Room> = rooms.filter(fits).collect();
    rooms.sort_unstable_by(|a, b| b.updated_at.cmp(&a.updated_at).then_with(|| b.id.cmp(&a.id)));
    let part_of = rooms.iter().skip(part.skip).map(|room| document(room, who));
    let (documents, more) = fill(part_of, part.limit);
    let next = more.then(|| format!("skip={}", part.skip.saturating_add(documents.len())));
    Ok(lists::bare(request, &documents, next))
}

fn status_named(name: Option<String>) -> Result<Option<RoomStatus>, Failure> {
    match name.as_deref() {
        None | Some("") => Ok(None),
        Some("active") => Ok(Some(RoomStatus::Active)),
        Some("archived") => Ok(Some(RoomStatus::Archived)),
        Some("closed") => Ok(Some(RoomStatus::Closed)),
        Some(_) => Err(Failure::invalid("status must be one of active, archived, closed")),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    title: Option<String>,
    agent_id: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    status: Option<String>,
}

async fn create(request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let Fields { title, agent_id, description, tags, .. } = body(request)?;
    let required = |field: Option<String>, name: &str| {
        field.filter(|text| !text.is_empty()).ok_or_else(|| Failure::invalid(format!("{name} is required")))
    };
    let (title, agent) = (required(title, "title")?, required(agent_id, "agentId")?);
    let agent = start::agent(&*state_of(who, desk)?, &agent)?.id.clone();
    let card = RoomCard {
        name: title,
        description: description.unwrap_or_default(),
        metadata: Json::of(&json!({ "agentId": agent.as_str(), "tags": tags.unwrap_or_default() })),
        entry: Entry::Members,
        ..RoomCard::default()
    };
    let create = Command::CreateRoom(CreateRoom { room: None, card });
    let (outcome, _) = desk.ask(who, Ask::new(Token(0), create)).await?;
    let Outcome::Room(room) = outcome.first() else {
        return Err(Failure::new(500, "Internal server error"));
    };
    let state = ask(desk, who, Command::Invite(room.clone(), Principal::Agent(agent))).await?;
    Ok(Response::json(201, &document(readable_room(&state, room.as_str(), who)?, who)))
}

async fn change(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let Fields { title, description, tags, status, .. } = body(request)?;
    let changes = RoomUpdated {
        name: title,
        description,
        metadata: tags.map(|tags| Json::of(&json!({ "tags": tags }))),
        status: status_named(status)?,
    };
    update(id, changes, who, desk).await
}

async fn end(id: &str, status: RoomStatus, who: &Identity, desk: &impl Desk) -> Answer {
    update(id, RoomUpdated { status: Some(status), ..RoomUpdated::default() }, who, desk).await
}

async fn update(id: &str, changes: RoomUpdated, who: &Identity, desk: &impl Desk) -> Answer {
    let room = readable_room(&*state_of(who, desk)?, id, who)?.id.clone();
    let state = ask(desk, who, Command::UpdateRoom(room.clone(), changes)).await?;
    let after = state.room(&room).map(|room| document(room, who)).unwrap_or_default();
    Ok(Response::json(200, &after))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invited {
    #[serde(rename = "type")]
    kind: String,
    participant_id: String,
}

fn participant(kind: &str, id: &str) -> Result<Principal, Failure> {
    let named = match kind {
        "agent" => AgentId::new(id).map(Principal::Agent),
        "user" => UserId::new(id).map(Principal::User),
        _ => return Err(Failure::invalid("type must be one of user, agent")),
    };
    named.map_err(|error| Failure::invalid(error.message))
}

async fn invite(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let Invited { kind, participant_id } = body(request)?;
    let member = participant(&kind, &participant_id)?;
    with_member(id, who, desk, |room| Command::Invite(room, member)).await
}

/// The participant's connections stop hearing the conversation.
async fn expel(id: &str, (kind, member): (&str, &str), who: &Identity, desk: &impl Desk) -> Answer {
    let member = participant(kind, member)?;
    with_member(id, who, desk, |room| Command::LeaveRoom(room, member)).await
}

async fn with_member(
    id: &str,
    who: &Identity,
    desk: &impl Desk,
    command: impl FnOnce(RoomId) -> Command,
) -> Answer {
    let room = readable_room(&*state_of(who, desk)?, id, who)?.id.clone();
    let state = ask(desk, who, command(room.clone())).await?;
    let after = state.room(&room).map(|room| document(room, who)).unwrap_or_default();
    Ok(Response::json(200, &after))
}

/// `POST /conversations/:id/summary`: drawn from what was said last, without a model, and kept with the conversation where
/// the asker may change it.
async fn summary(id: &str, who: &Identity, desk: &impl Desk) -> Answer {
    let state = state_of(who, desk)?;
    let room = readable_room(&state, id, who)?;
    let newest = PageOf { limit: encode::SUMMARISED as usize, ..PageOf::default() };
    let page = desk.page(who, &room.id, newest).await?;
    let summary = encode::summary(room, &page.records);
    if access::may_manage_room(&state, room, &who.principal) {
        ask(desk, who, Command::Summarise(room.id.clone(), summary.clone())).await?;
    }
    Ok(Response::json(200, &json!({ "summary": summary })))
}
