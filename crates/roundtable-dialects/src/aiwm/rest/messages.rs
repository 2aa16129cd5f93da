//! REST of messages: saying, paging, searching, counting (notes §10). What asks for some of a conversation's messages walks
//! over pages of them, as far as one request may.

use std::collections::BTreeMap;

use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, RoomId};
use roundtable_core::messages::{Delete, Message as Said};
use roundtable_core::rooms::Room;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::encode::{self, Door};
use super::super::errors;
use super::super::input::{UNKNOWN_PARENT, post_of};
use super::super::reply::as_said;
use super::super::wire::send;
use super::conversations::readable_room;
use super::{Answer, Failure, ask, bearer_of, lists, nothing, nothing_here, state_of};
use crate::cursor;
use crate::pages::{Filling, MOST_ITEMS};
use crate::rest::{Desk, Page, PageOf, Request, Response};
use crate::session::{Ask, Identity, Token, query_value};

pub(super) async fn handle(parts: &[&str], request: &Request<'_>, desk: &impl Desk) -> Answer {
    let who = bearer_of(request, desk).await?;
    let state = state_of(&who, desk)?;
    let read = Reading { state: &state, who: &who, desk };
    match (request.method, parts) {
        ("POST", []) => read.say(request).await,
        ("GET", ["thread", id]) => read.thread(id, request).await,
        ("GET", [id]) => read.one(id).await,
        ("DELETE", [id]) => read.delete(id).await,
        ("GET", ["conversation", room]) => read.page(readable_room(&state, room, &who)?, request).await,
        ("GET", ["conversation", room, rest @ ..]) => {
            read.some(readable_room(&state, room, &who)?, rest, request).await
        }
        _ => Err(nothing_here(request)),
    }
}

/// How many messages one request looks at, at most, and how many bytes of them; the log is long, a request is not.
const MOST_WALKED: (usize, usize) = (100_000, 64 << 20);

/// From where messages are looked at, and in which direction.
#[derive(Clone, Copy)]
enum From {
    /// Backwards from the newest, or from an offset.
    Before(Option<Offset>),
    /// Forwards from an offset.
    After(Offset),
}

struct Reading<'a, D> {
    state: &'a State,
    who: &'a Identity,
    desk: &'a D,
}

fn said(record: &Record) -> Option<&Said> {
    if let Event::MessagePosted(said) = &record.event { Some(said) } else { None }
}

impl<D: Desk> Reading<'_, D> {
    fn document(&self, record: &Record) -> Option<Box<RawValue>> {
        let text = encode::message_of(record, self.state, Door::Named)?;
        RawValue::from_string(text).ok()
    }

    /// Looks at messages until `visit` has had enough. Says whether it has seen all there are, or that one request looks at.
    async fn walk(
        &self,
        room: &RoomId,
        from: From,
        mut visit: impl FnMut(&Record) -> bool + Send,
    ) -> Result<Walked, Failure> {
        let (mut from, mut left) = (from, MOST_WALKED);
        loop {
            let page = match from {
                From::Before(before) => PageOf { before, limit: MOST_ITEMS, ..PageOf::default() },
                From::After(after) => PageOf { after: Some(after), limit: MOST_ITEMS, ..PageOf::default() },
            };
            let backwards = matches!(from, From::Before(_));
            let Page { mut records, more } = self.desk.page(self.who, room, page).await?;
            if backwards {
                records.reverse();
            }
            for record in &records {
                if !visit(record) {
                    return Ok(Walked::Enough);
                }
                let size = said(record).map_or(0, |said| {
                    said.content.as_text().len() + said.parts.as_ref().map_or(0, |parts| parts.as_str().len())
                });
                left = (left.0.saturating_sub(1), left.1.saturating_sub(size));
            }
            let Some(last) = records.last().filter(|_| more) else { return Ok(Walked::All) };
            if left.0 == 0 || left.1 == 0 {
                return Ok(Walked::TooFar);
            }
            from = if backwards { From::Before(Some(last.offset)) } else { From::After(last.offset) };
        }
    }

    /// The messages that fit, from somewhere on, as a list, at most so many; where it ends early, `Link` says where it goes on.
    async fn found(
        &self,
        room: &Room,
        (request, from, most): (&Request<'_>, From, usize),
        first: Option<&Record>,
        fits: impl Fn(&Said) -> bool + Send + Sync,
    ) -> Result<(Vec<Box<RawValue>>, Option<String>), Failure> {
        let mut filling = Filling::of(most);
        if let Some(document) = first.and_then(|record| self.document(record)) {
            filling.take(&document);
        }
        let (from, name) = match (from, Cut::read(request)?) {
            (From::Before(_), cut) => (From::Before(cut.before), "before"),
            (From::After(after), cut) => {
                (From::After(cut.after.map_or(after, |cut| cut.max(after))), "after")
            }
        };
        let mut last = None;
        let walked = self
            .walk(&room.id, from, |record| {
                let wanted = said(record).is_some_and(&fits);
                let taken = !wanted || self.document(record).is_none_or(|document| filling.take(&document));
                if taken {
                    last = Some(record.offset);
                }
                taken
            })
            .await?;
        let end = last.filter(|_| walked != Walked::All).map(|offset| Cursor { epoch: 0, offset });
        Ok((filling.items(), end.map(|end| format!("{name}={end}"))))
    }

    /// `GET /messages/conversation/:cid`: pages count from the oldest.
    async fn page(&self, room: &Room, request: &Request<'_>) -> Answer {
        let part = lists::Part::of(request, 50)?;
        let total = usize::try_from(room.messages).unwrap_or(usize::MAX);
        let mut filling = Filling::of(part.limit);
        if part.skip < total {
            // The first of them is found from the newest, the others follow it.
            let first = PageOf { skip: total - 1 - part.skip, limit: 1, ..PageOf::default() };
            let first = self.desk.page(self.who, &room.id, first).await?.records;
            let after = first.first().map(|record| record.offset);
            let rest = PageOf { after, limit: part.limit - 1, ..PageOf::default() };
            let rest = match after.filter(|_| part.limit > 1) {
                Some(_) => self.desk.page(self.who, &room.id, rest).await?.records,
                None => Vec::new(),
            };
            let mut documents = first.iter().chain(&rest).filter_map(|record| self.document(record));
            let _ = documents.all(|document| filling.take(&document));
        }
        let next = lists::next(&filling, part, total);
        let mut body = json!({ "total": total, "page": part.page, "limit": part.limit });
        if let (Some(next), Some(members)) = (next, body.as_object_mut()) {
            members.insert("next".into(), next.into());
        }
        #[derive(Serialize)]
        struct Shown {
            data: Vec<Box<RawValue>>,
            #[serde(flatten)]
            rest: Value,
        }
        Ok(Response::json(200, &Shown { data: filling.items(), rest: body }))
    }

    /// What comes after `/messages/conversation/:cid`.
    async fn some(&self, room: &Room, rest: &[&str], request: &Request<'_>) -> Answer {
        let newest = From::Before(None);
        let (mut items, next) = match rest {
            ["role", role] => {
                let named = ["user", "assistant", "system", "tool"].contains(role);
                if !named {
                    return Err(Failure::invalid("role must be one of user, assistant, system, tool"));
                }
                let fits = |said: &Said| encode::role(said.role) == *role;
                self.found(room, (request, newest, MOST_ITEMS), None, fits).await?
            }
            ["last", count] => {
                let count = count.parse::<usize>().ok().filter(|n| *n > 0);
                let count =
                    count.ok_or_else(|| Failure::invalid("count must be a whole number of at least 1"))?;
                self.found(room, (request, newest, count), None, |_| true).await?
            }
            ["attachments"] => {
                let fits = |said: &Said| attachments(said) > 0;
                let (items, next) = self.found(room, (request, newest, MOST_ITEMS), None, fits).await?;
                return Ok(lists::bare(request, &items, next));
            }
            ["search"] => {
                let wanted = query_value(request.query, "q").filter(|q| !q.is_empty());
                let wanted = wanted.ok_or_else(|| Failure::invalid("q is required"))?.to_lowercase();
                let has = |said: &Said| said.content.as_text().to_lowercase().contains(&wanted);
                self.found(room, (request, newest, MOST_ITEMS), None, has).await?
            }
            ["statistics"] => return self.statistics(room).await,
            _ => return Err(nothing_here(request)),
        };
        items.reverse();
        Ok(lists::bare(request, &items, next))
    }

    async fn statistics(&self, room: &Room) -> Answer {
        let (mut roles, mut kinds) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        let (mut total, mut with_attachments) = (0_u64, 0_u64);
        let walk = self.walk(&room.id, From::Before(None), |record| {
            if let Some(said) = said(record) {
                total += 1;
                *roles.entry(encode::role(said.role)).or_default() += 1;
                *kinds.entry(encode::kind(said.kind, Door::Named)).or_default() += 1;
                with_attachments += u64::from(attachments(said) > 0);
            }
            true
        });
        if walk.await? == Walked::TooFar {
            let message =
                "There are more than 100,000 messages or 64 MiB of them: too many to be counted at once";
            return Err(Failure::new(400, message));
        }
        let body = json!({
            "total": total, "byRole": roles, "byType": kinds, "totalTokens": room.tokens,
            "withAttachments": with_attachments,
        });
        Ok(Response::json(200, &body))
    }

    /// A message of any conversation that the asker may read.
    async fn find(&self, id: &str) -> Result<Record, Failure> {
        let shown: String = id.chars().take(128).collect();
        let missing = || Failure::new(404, format!("Message with ID {shown} not found"));
        let found = self.look_for(id).await?.ok_or_else(missing)?;
        let room = found.room.as_ref().map_or("", |room| room.as_str());
        readable_room(self.state, room, self.who).map_err(|_| missing())?;
        Ok(found)
    }

    async fn look_for(&self, id: &str) -> Result<Option<Record>, Failure> {
        match MessageId::new(id) {
            Ok(id) => Ok(self.desk.find(self.who, &id).await?),
            Err(_) => Ok(None),
        }
    }

    /// `DELETE /messages/:id`: its author, owners and editors may.
    async fn delete(&self, id: &str) -> Answer {
        let found = self.find(id).await?;
        if let (Some(said), Some(room)) = (said(&found), &found.room) {
            let command = Delete {
                room: room.clone(),
                message: said.id.clone(),
                offset: found.offset,
                author: said.from.clone(),
            };
            ask(self.desk, self.who, Command::DeleteMessage(command)).await?;
        }
        Ok(nothing())
    }

    async fn one(&self, id: &str) -> Answer {
        let found = self.find(id).await?;
        Ok(Response::json(200, &self.document(&found)))
    }

    /// A message and those that answer it, oldest first.
    async fn thread(&self, id: &str, request: &Request<'_>) -> Answer {
        let parent = self.find(id).await?;
        let room = parent.room.as_ref().and_then(|room| self.state.room(room));
        let room = room.ok_or_else(|| Failure::new(404, format!("Message with ID {id} not found")))?;
        let answers = |said: &Said| said.reply_to.as_deref() == Some(id);
        let from = (request, From::After(parent.offset), MOST_ITEMS);
        let goes_on = query_value(request.query, "after").is_some();
        let (items, next) = self.found(room, from, Some(&parent).filter(|_| !goes_on), answers).await?;
        Ok(lists::bare(request, &items, next))
    }

    /// `POST /messages`: as `message:send`, but the conversation must be named.
    async fn say(&self, request: &Request<'_>) -> Answer {
        let raw = std::str::from_utf8(request.body)
            .ok()
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let send =
            send::read(Some(raw.ok_or_else(|| Failure::invalid("the body must be a JSON object"))?), false)
                .map_err(Failure::invalid)?;
        let Some(id) = send.conversation.clone() else {
            return Err(Failure::invalid("Validation error: conversationId is required"));
        };
        let room = readable_room(self.state, &id, self.who)?.id.clone();
        if let Some(parent) = &send.parent
            && self.look_for(parent).await?.is_none_or(|found| found.room.as_ref() != Some(&room))
        {
            return Err(Failure::invalid(UNKNOWN_PARENT));
        }
        let client = send.client.clone();
        let post = post_of(send, &self.who.principal, room.clone(), self.state)
            .map_err(|refused| Failure::new(403, refused))?;
        let command = Command::Post(Box::new(post.clone()));
        let asked = self.desk.ask(self.who, Ask { client, ..Ask::new(Token(0), command) }).await;
        let (outcome, state) = asked.map_err(|error| {
            let message = errors::refused(&error, &self.who.principal, &room, self.state);
            Failure { message, ..Failure::from(error) }
        })?;
        let Outcome::Message(id) = outcome.first() else {
            return Err(Failure::new(500, "Internal server error"));
        };
        let after = Reading { state: &state, ..*self };
        match after.look_for(id.as_str()).await? {
            Some(record) => Ok(Response::json(201, &after.document(&record))),
            // A room that keeps nothing has said it to whoever was there.
            None => {
                let (said, place) = (as_said(&post, id.clone()), (&room, state.room(&room)));
                let text = encode::message(&said, self.desk.now(), place, Door::Named);
                Ok(Response::json(201, &RawValue::from_string(text).ok()))
            }
        }
    }
}

/// How a walk over messages ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walked {
    /// There are no more.
    All,
    /// It has found what it wanted.
    Enough,
    /// There are more than one request looks at.
    TooFar,
}

/// Where a list goes on, as its `Link` header says.
#[derive(Default)]
struct Cut {
    before: Option<Offset>,
    after: Option<Offset>,
}

impl Cut {
    fn read(request: &Request<'_>) -> Result<Self, Failure> {
        let read = |name: &str| {
            let text = query_value(request.query, name).filter(|text| !text.is_empty());
            let cursor = text.map(|text| cursor::read(&text, 0).ok_or(name)).transpose();
            cursor
                .map(|cursor| cursor.map(|cursor| cursor.offset))
                .map_err(|name| Failure::invalid(format!("{name} must be the cursor of a message")))
        };
        Ok(Self { before: read("before")?, after: read("after")? })
    }
}

fn attachments(said: &Said) -> usize {
    let parts: Value = said.parts.as_ref().and_then(|parts| parts.read()).unwrap_or_default();
    parts.get("attachments").and_then(Value::as_array).map_or(0, Vec::len)
}
