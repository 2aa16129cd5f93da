//! REST of messages: saying, paging, searching, counting (notes §10). The log has pages from the newest backwards; what
//! asks for anything else walks them.

use std::collections::BTreeMap;

use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, RoomId};
use roundtable_core::messages::{Delete, Message as Said};
use roundtable_core::rooms::Room;
use roundtable_core::state::State;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::encode::{self, Door};
use super::super::errors;
use super::super::input::{UNKNOWN_PARENT, post_of};
use super::super::reply::as_said;
use super::super::wire::send;
use super::conversations::readable_room;
use super::{Answer, Failure, ask, bearer_of, lists, nothing, nothing_here, state_of};
use crate::rest::{Desk, Request, Response};
use crate::session::{Ask, Identity, Token, query_value};

pub(super) async fn handle(parts: &[&str], request: &Request<'_>, desk: &impl Desk) -> Answer {
    let who = bearer_of(request, desk).await?;
    let state = state_of(&who, desk)?;
    let read = Reading { state: &state, who: &who, desk };
    match (request.method, parts) {
        ("POST", []) => read.say(request).await,
        ("GET", ["thread", id]) => read.thread(id).await,
        ("GET", [id]) => read.one(id).await,
        ("DELETE", [id]) => read.delete(id).await,
        ("GET", ["conversation", room]) => read.page(readable_room(&state, room, &who)?, request).await,
        ("GET", ["conversation", room, rest @ ..]) => {
            read.some(readable_room(&state, room, &who)?, rest, request).await
        }
        _ => Err(nothing_here(request)),
    }
}

/// How many records are read at a time.
const CHUNK: u32 = 200;
/// How many messages one request walks over at most; the log is long, a request is not.
const MOST_WALKED: usize = 100_000;

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

    fn documents(&self, records: &[Record]) -> Vec<Box<RawValue>> {
        records.iter().filter_map(|record| self.document(record)).collect()
    }

    /// Messages from the newest backwards, until `visit` has had enough. Fails when it wants more than one request gets.
    async fn walk(
        &self,
        room: &RoomId,
        mut visit: impl FnMut(&Record) -> bool + Send,
    ) -> Result<(), Failure> {
        let mut before = None;
        for _ in 0..MOST_WALKED / CHUNK as usize {
            let page = self.desk.page(self.who, room, before, CHUNK).await?;
            for record in page.iter().rev() {
                if !visit(record) {
                    return Ok(());
                }
            }
            match page.first() {
                Some(first) => before = Some(first.offset),
                None => return Ok(()),
            }
        }
        Err(Failure::new(400, "What is asked for lies more than 100,000 messages back"))
    }

    /// The newest messages that fit, at most so many, newest first.
    async fn newest(
        &self,
        room: &Room,
        most: usize,
        fits: impl Fn(&Said) -> bool + Send + Sync,
    ) -> Result<Vec<Record>, Failure> {
        let mut found = Vec::new();
        self.walk(&room.id, |record| {
            if found.len() < most && said(record).is_some_and(&fits) {
                found.push(record.clone());
            }
            found.len() < most
        })
        .await?;
        Ok(found)
    }

    /// `GET /messages/conversation/:cid`: pages count from the oldest.
    async fn page(&self, room: &Room, request: &Request<'_>) -> Answer {
        let (page, limit) = (lists::number(request, "page", 1)?, lists::limit(request, 50)?);
        let total = usize::try_from(room.messages).unwrap_or(usize::MAX);
        let start = page.saturating_sub(1).saturating_mul(limit).min(total);
        let end = start.saturating_add(limit).min(total);
        let (mut at, mut found) = (total, Vec::new());
        if start < end {
            self.walk(&room.id, |record| {
                at = at.saturating_sub(1);
                if (start..end).contains(&at) {
                    found.push(record.clone());
                }
                at > start
            })
            .await?;
        }
        found.reverse();
        let body = json!({ "data": self.documents(&found), "total": total, "page": page, "limit": limit });
        Ok(Response::json(200, &body))
    }

    /// What comes after `/messages/conversation/:cid`.
    async fn some(&self, room: &Room, rest: &[&str], request: &Request<'_>) -> Answer {
        let mut found = match rest {
            ["role", role] => {
                let named = ["user", "assistant", "system", "tool"].contains(role);
                if !named {
                    return Err(Failure::invalid("role must be one of user, assistant, system, tool"));
                }
                self.newest(room, MOST_FOUND, |said| encode::role(said.role) == *role).await?
            }
            ["last", count] => {
                let count = count.parse::<usize>().ok().filter(|n| *n > 0);
                let count =
                    count.ok_or_else(|| Failure::invalid("count must be a whole number of at least 1"))?;
                self.newest(room, count.min(MOST_FOUND), |_| true).await?
            }
            ["attachments"] => {
                let found = self.newest(room, MOST_FOUND, |said| attachments(said) > 0).await?;
                return Ok(Response::json(200, &self.documents(&found)));
            }
            ["search"] => {
                let wanted = query_value(request.query, "q").filter(|q| !q.is_empty());
                let wanted = wanted.ok_or_else(|| Failure::invalid("q is required"))?.to_lowercase();
                let has = |said: &Said| said.content.as_text().to_lowercase().contains(&wanted);
                self.newest(room, MOST_FOUND, has).await?
            }
            ["statistics"] => return self.statistics(room).await,
            _ => return Err(nothing_here(request)),
        };
        found.reverse();
        Ok(Response::json(200, &self.documents(&found)))
    }

    async fn statistics(&self, room: &Room) -> Answer {
        let (mut roles, mut kinds) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        let (mut total, mut with_attachments) = (0_u64, 0_u64);
        self.walk(&room.id, |record| {
            if let Some(said) = said(record) {
                total += 1;
                *roles.entry(encode::role(said.role)).or_default() += 1;
                *kinds.entry(encode::kind(said.kind, Door::Named)).or_default() += 1;
                with_attachments += u64::from(attachments(said) > 0);
            }
            true
        })
        .await?;
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
    async fn thread(&self, id: &str) -> Answer {
        let parent = self.find(id).await?;
        let room = parent.room.as_ref().and_then(|room| self.state.room(room));
        let mut thread = Vec::new();
        if let Some(room) = room {
            self.walk(&room.id, |record| {
                if said(record).is_some_and(|said| said.reply_to.as_deref() == Some(id)) {
                    thread.push(record.clone());
                }
                record.offset > parent.offset
            })
            .await?;
        }
        thread.push(parent);
        thread.reverse();
        Ok(Response::json(200, &self.documents(&thread)))
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

/// Most messages of an answer that has no pages.
const MOST_FOUND: usize = 1_000;

fn attachments(said: &Said) -> usize {
    let parts: Value = said.parts.as_ref().and_then(|parts| parts.read()).unwrap_or_default();
    parts.get("attachments").and_then(Value::as_array).map_or(0, Vec::len)
}
