//! Messages of a channel: a page of them, one more, and what can be drawn from the newest (MXF notes §10).

use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, Principal};
use roundtable_core::messages::{Content, Message, MessageKind, Post};
use roundtable_core::time::Cursor;
use serde_json::{Value, json};

use super::super::encode::{self, shapes};
use super::super::errors::WINDOW_MS;
use super::super::input::part;
use super::super::wire::{BROADCASTS, Saying};
use super::{Answer, Answered, Call, Failure, digest, fields};
use crate::cursor;
use crate::pages::MOST_ITEMS;
use crate::rest::{Desk, Page, PageOf};
use crate::session::{Ask, Budget, Token, query_value};

/// Messages of a page if nobody says otherwise, and at most.
const PAGE: usize = 50;
const MOST: usize = MOST_ITEMS;

/// `GET channels/:id/history` and `…/messages`: the newest, oldest first; `next` is the `before` of the page before it.
pub(super) async fn page<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let room = call.inside(id)?.id.clone();
    let query = |name: &str| query_value(call.request.query, name).filter(|text| !text.is_empty());
    let limit = match query("limit") {
        None => PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MOST).contains(limit))
            .ok_or_else(|| Failure::new(400, format!("limit must be a number from 1 to {MOST}")))?,
    };
    let before = match query("before") {
        None => None,
        Some(text) => {
            let cursor = cursor::read(&text, 0).map(|cursor| cursor.offset);
            Some(cursor.ok_or_else(|| Failure::new(400, "before must be the cursor of a message"))?)
        }
    };
    let asked = PageOf { before, limit, ..PageOf::default() };
    let Page { records: page, more } = call.desk.page(&call.who, &room, asked).await?;
    let messages: Vec<Value> = page.iter().filter_map(|record| encode::shown(record, &room)).collect();
    let oldest = page.first().map(|record| Cursor { epoch: 0, offset: record.offset }.to_string());
    let next = oldest.filter(|_| more);
    let count = messages.len();
    Ok(Answer::data(200, json!({"channelId": id, "messages": messages, "count": count, "next": next})))
}

/// `POST channels/:id/messages`: the same as `message:send`, or with a `type` as `message:broadcast`.
pub(super) async fn post<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let room = call.channel(id)?.id.clone();
    let fields = fields(call.request)?;
    let saying = Saying::read(&fields, None)?;
    let from = match saying.agent {
        Some(agent) if call.who.principal.user().is_some() => Principal::Agent(agent),
        _ => call.who.principal.clone(),
    };
    let post = Post {
        role: part(&room, &from, &call.state),
        kind: fields.one_of("type", &BROADCASTS)?.unwrap_or(MessageKind::Text),
        content: saying.content,
        metadata: saying.metadata,
        reply_to: saying.reply_to,
        ..Post::text(room.clone(), from.clone(), "")
    };
    let most = call.desk.messages_per_minute();
    let budget = most.map(|most| Budget { class: "mxf.messages", most, window_ms: WINDOW_MS });
    let actor = (from != call.who.principal).then(|| from.clone());
    let command = Command::Post(Box::new(post));
    let ask = Ask { actor, client: saying.client, budget, ..Ask::new(Token(0), command) };
    let (outcome, state) = call.ask(ask).await?;
    let said = message_of(&outcome);
    let newest = state.room(&room).and_then(|room| room.last.as_ref());
    let at = newest.filter(|last| Some(&last.id) == said.as_ref()).map_or(call.desk.now(), |last| last.at);
    let data = json!({
        "messageId": said.as_ref().map(MessageId::as_str), "channelId": room.as_str(), "from": from.id(),
        "timestamp": shapes::iso(at),
    });
    Ok(Answer::data(201, data))
}

fn message_of(outcome: &Outcome) -> Option<MessageId> {
    if let Outcome::Message(id) = outcome.first() { Some(id.clone()) } else { None }
}

/// The words of the newest messages of a channel, oldest first.
async fn newest<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Vec<Record>, Failure> {
    let room = call.inside(id)?.id.clone();
    let asked = PageOf { limit: MOST, ..PageOf::default() };
    Ok(call.desk.page(&call.who, &room, asked).await?.records)
}

fn words(page: &[Record]) -> Vec<&str> {
    page.iter().filter_map(text_of).collect()
}

fn text_of(record: &Record) -> Option<&str> {
    match &record.event {
        Event::MessagePosted(Message { content: Content::Text(text), .. }) => Some(text),
        _ => None,
    }
}

/// `POST channels/:id/topics {minRelevance}`: the words that most messages share.
pub(super) async fn topics<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let fields = fields(call.request)?;
    let least = match fields.raw("minRelevance") {
        None => 0.0,
        Some(raw) => {
            let number: Option<f64> = serde_json::from_str(raw.get()).ok();
            let fits = number.filter(|number| (0.0..=1.0).contains(number));
            fits.ok_or_else(|| fields.wrong("minRelevance", "must be a number from 0 to 1"))?
        }
    };
    let page = newest(call, id).await?;
    let texts = words(&page);
    let topics: Vec<Value> = digest::topics(&texts)
        .into_iter()
        .filter(|topic| topic.relevance >= least)
        .map(|t| json!({"topic": t.word, "relevance": t.relevance, "mentions": t.mentions}))
        .collect();
    Ok(Answer::data(200, json!({"channelId": id, "topics": topics, "messageCount": texts.len()})))
}

/// `POST channels/:id/summary`: the sentences that share most with the others, as they were said.
pub(super) async fn summary<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let page = newest(call, id).await?;
    let texts = words(&page);
    let points = digest::sentences(&texts);
    let topics: Vec<String> = digest::topics(&texts).into_iter().map(|topic| topic.word).collect();
    let edge = |record: Option<&Record>| record.map(|record| shapes::iso(record.at));
    let data = json!({
        "channelId": id,
        "summary": points.join(" "),
        "keyPoints": points,
        "topics": topics,
        "messageCount": texts.len(),
        "from": edge(page.first()),
        "to": edge(page.last()),
        "method": "extractive",
    });
    Ok(Answer::data(200, data))
}
