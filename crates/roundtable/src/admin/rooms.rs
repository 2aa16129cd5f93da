//! Rooms by the operator: making them, reading them, speaking, looking on.

use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{Principal, RoomId, UserId};
use roundtable_core::messages::{Content, MessageKind, Post, Role};
use roundtable_core::rooms::{CreateRoom, JoinRoom, Member, RoomCard};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset};
use roundtable_dialects::iso::iso;
use roundtable_dialects::pages::MOST_ITEMS;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::{Asked, Named};
use crate::admin::pages::PageQuery;
use crate::admin::records::Seen;
use crate::admin::tokens::exists;
use crate::admin::wire::{
    AddRoom, AddedRoom, History, HistoryQuery, SendMessage, SentMessage, ShownMember, ShownRoom, TailQuery,
};
use crate::admin::{Admin, Desk, Office};
use crate::auth::first_start::ADMIN;
use crate::log::Shown;

/// Records of one piece of a tail.
const PIECE: usize = 256;

/// `POST /rooms`.
pub async fn add<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: AddRoom = body(&bytes)?;
    let room = RoomId::new(&wanted.room)?;
    let name = wanted.name.unwrap_or_else(|| room.to_string());
    let card = RoomCard { name, durability: wanted.durability, ..RoomCard::default() };
    admin.command(Command::CreateRoom(CreateRoom { room: Some(room.clone()), card })).await?;
    Ok(json_response(201, &AddedRoom { room: room.to_string() }))
}

/// `DELETE /rooms/{id}`, with the keys that open it. Its records stay in the log; its id is nobody's any more.
pub async fn remove<O: Office>(Desk(admin): Desk<O>, Named(id): Named) -> Result<Response, Refused> {
    admin.command(Command::RemoveRoom(RoomId::new(&id)?)).await?;
    Ok(json_response(200, &AddedRoom { room: id }))
}

fn known(state: &State, room: &RoomId) -> Result<(), Error> {
    let unknown = || Error::new(ErrorKind::RoomNotFound, format!("there is no room {room}"));
    state.room(room).map(drop).ok_or_else(unknown)
}

/// The position that a cursor stands for. Fails with `CannotResume` when the records before it were lost meanwhile, or have
/// not been written yet.
fn held(office: &impl Office, text: &str) -> Result<Offset, Refused> {
    let cursor: Cursor = text.parse()?;
    let (epochs, head) = (office.epochs(), office.state().head);
    if epochs.holds(cursor, head) {
        return Ok(cursor.offset);
    }
    let newest = Cursor { epoch: epochs.current(), offset: head };
    let message = format!("the log does not hold {cursor}; its newest record is {newest}");
    Err(Error::new(ErrorKind::CannotResume, message).into())
}

/// `GET /rooms/{id}`.
pub async fn show<O: Office>(
    Desk(admin): Desk<O>,
    Named(id): Named,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, id) = (admin.office.state(), RoomId::new(&id)?);
    let after = asked.after(Principal::parse)?;
    let span: (Bound<&Principal>, Bound<&Principal>) =
        (after.as_ref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    known(&state, &id)?;
    let epoch = admin.office.epochs().current();
    let cursor = |offset: Offset| Cursor { epoch, offset }.to_string();
    let member = |(who, part): (&Principal, &Member)| ShownMember {
        member: who.to_string(),
        online: state.online(who),
        joined_at: iso(part.joined_at),
        read: part.read.as_ref().map(|(offset, _)| cursor(*offset)),
    };
    let members = state.room(&id).into_iter().flat_map(|room| room.members.range::<_, Principal>(span));
    let (members, next) = asked.of(members.map(member), |member| member.member.clone());
    let shown = state.room(&id).map(|room| ShownRoom {
        room: id.to_string(),
        name: room.card.name.clone(),
        description: room.card.description.clone(),
        owner: room.owner.to_string(),
        status: room.status,
        entry: room.card.entry,
        durability: room.card.durability,
        max_members: room.card.max_members,
        agent: room.card.agent.as_ref().map(ToString::to_string),
        metadata: room.card.metadata.read().unwrap_or_default(),
        members,
        member_count: room.members.len(),
        next,
        messages: room.messages,
        tokens: room.tokens,
        last: room.last.as_ref().map(|last| cursor(last.offset)),
        created_at: iso(room.created_at),
        updated_at: iso(room.updated_at),
    });
    Ok(json_response(200, &shown))
}

/// `GET /rooms/{id}/messages`.
pub async fn history<O: Office>(
    Desk(admin): Desk<O>,
    Named(id): Named,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Response, Refused> {
    let room = RoomId::new(&id)?;
    known(&admin.office.state(), &room)?;
    let limit = query.limit.unwrap_or(50);
    if !(1..=1_000).contains(&limit) {
        return Err(Error::invalid("limit", "must be 1 to 1000").into());
    }
    let before = query.before.as_deref().map(|text| held(&admin.office, text)).transpose()?;
    let Shown { records, more } = admin.office.page(&room, before, limit.min(MOST_ITEMS)).await?;
    let epoch = admin.office.epochs().current();
    let messages: Vec<Seen> = records.iter().map(|record| Seen::of(record, epoch)).collect();
    let next = messages.first().filter(|_| more).map(|oldest| oldest.cursor.clone());
    Ok(json_response(200, &History { room: id, messages, next }))
}

/// Only the first workspace begins with an account: in others there may be nobody to speak for the operator.
fn unnamed(error: Error) -> Error {
    let message = format!("{}: say who speaks, with `from` (--from on the command line)", error.message);
    Error::new(error.kind, message).field("from")
}

/// `POST /rooms/{id}/messages`.
pub async fn send<O: Office>(
    Desk(admin): Desk<O>,
    Named(id): Named,
    bytes: Bytes,
) -> Result<Response, Refused> {
    let SendMessage { content, from } = body(&bytes)?;
    let room = RoomId::new(&id)?;
    let named = from.is_some();
    let from = match from {
        Some(text) => Principal::parse(&text)?,
        None => Principal::User(UserId::new(ADMIN)?),
    };
    let state = admin.office.state();
    let role = match &from {
        Principal::User(_) => Role::User,
        Principal::Agent(_) => Role::Assistant,
        _ => return Err(Error::invalid("from", "must be a user or an agent").into()),
    };
    exists(&state, &from).map_err(|error| if named { error } else { unnamed(error) })?;
    let join = JoinRoom { room: room.clone(), member: from.clone(), create: None, by_key: false };
    admin.command(Command::JoinRoom(join)).await?;
    let post = Post {
        room,
        from: from.clone(),
        role,
        kind: MessageKind::Text,
        content: Content::Text(content),
        parts: None,
        metadata: None,
        reply_to: None,
        platform: Some("cli".into()),
        tokens: 0,
    };
    let (outcome, _) = admin.office.ask(from, Command::Post(Box::new(post))).await?;
    let Outcome::Message(message) = outcome.first() else {
        return Err(Error::new(ErrorKind::Internal, "a message without an id").into());
    };
    Ok(json_response(201, &SentMessage { message_id: message.to_string() }))
}

struct Tail<O> {
    admin: Arc<Admin<O>>,
    room: Option<RoomId>,
    after: Offset,
}

impl<O: Office> Tail<O> {
    /// The next lines; waits until there are some. `None` when the log cannot be read any more.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let records = self.admin.office.read(self.after, PIECE).await.ok()?;
            let Some(last) = records.last() else {
                self.admin.office.beyond(self.after).await;
                continue;
            };
            self.after = last.offset;
            let wanted = |room: &Option<RoomId>| self.room.is_none() || *room == self.room;
            let mut lines = Vec::new();
            let epoch = self.admin.office.epochs().current();
            for record in records.iter().filter(|record| wanted(&record.room)) {
                serde_json::to_writer(&mut lines, &Seen::of(record, epoch)).ok()?;
                lines.push(b'\n');
            }
            if !lines.is_empty() {
                return Some((Ok(Bytes::from(lines)), self));
            }
        }
    }
}

/// `GET /tail`.
pub async fn tail<O: Office>(
    Desk(admin): Desk<O>,
    Asked(query): Asked<TailQuery>,
) -> Result<Response, Refused> {
    let state = admin.office.state();
    let room = query.room.as_deref().map(RoomId::new).transpose()?;
    if let Some(room) = &room {
        known(&state, room)?;
    }
    let since = query.since.as_deref().map(|text| held(&admin.office, text)).transpose()?;
    let tail = Tail { admin, room, after: since.unwrap_or(state.head) };
    let lines = futures_util::stream::unfold(tail, Tail::next);
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}
