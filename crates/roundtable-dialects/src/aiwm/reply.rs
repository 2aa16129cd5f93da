//! What the engine and the log answered, as the client is told.

use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{AgentId, MessageId, Principal, RoomId};
use roundtable_core::messages::{Message as Said, Post};
use roundtable_core::rooms;
use roundtable_core::time::{Offset, Time};

use super::encode::{self, ServerEvent, json};
use super::errors::{self, NO_CONVERSATION};
use super::input::{Reply, Seeking};
use super::{AiwmSession, room_of};
use crate::iso::iso;
use crate::pages::here;
use crate::session::{Outputs, Scene};

/// Own messages that are remembered as told before they came from the log; one more would come a second time, under its `_id`.
const MOST_TOLD: usize = 256;

/// The engine's answers.
impl AiwmSession {
    /// A message is stored: `message:new` went out before, now `message:sent` and the acknowledgement.
    pub(super) fn said(
        &mut self,
        outcome: Result<&Outcome, &Error>,
        reply: Reply,
        post: Box<Post>,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let text = errors::refused(error, &post.from, &post.room, scene.state);
                return self.fail(&reply, &text, scene.at, out);
            }
        };
        let Outcome::Message(id) = outcome.first() else { return };
        if let Some(found) = self.sent.iter().position(|(sent, ..)| sent == id) {
            let (id, at, document) = self.sent.swap_remove(found);
            return self.confirm(&reply, &id, (at, &document), out);
        }
        if let Outcome::Repeated(_) = outcome {
            let first = Box::new((*post, id.clone()));
            return self.seek(id.clone(), Seeking::Repeat(reply, first), out);
        }
        // Said while this connection did not hear the room yet: the same batch held its joining.
        let room = scene.state.room(&post.room);
        let last = room.and_then(|room| room.last.as_ref()).filter(|last| last.id == *id);
        let at = last.map_or(scene.at, |last| last.at);
        let document = encode::message(&as_said(&post, id.clone()), at, (&post.room, room), self.door);
        if self.hears(&post.room) {
            // It is behind: what was said before comes first, and its own message with it.
            if self.told.len() >= MOST_TOLD {
                self.told.pop_front();
            }
            self.told.push_back(id.clone());
        }
        self.emit(ServerEvent::New, document.clone(), out);
        self.confirm(&reply, id, (at, &document), out);
    }

    fn confirm(&self, reply: &Reply, id: &MessageId, (at, document): (Time, &str), out: &mut Outputs) {
        let data = format!("{{\"success\":true,\"messageId\":\"{id}\",\"timestamp\":\"{}\"}}", iso(at));
        self.emit(ServerEvent::Sent, data, out);
        self.answer(reply, &format!("{{\"success\":true,\"message\":{document}}}"), out);
    }

    /// The same client id again: the first message is confirmed once more and not delivered again. In a room that keeps
    /// nothing it is told from what was sent now.
    pub(super) fn confirm_repeat(
        &self,
        reply: &Reply,
        (post, id): &(Post, MessageId),
        found: Option<&Record>,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let kept = found.and_then(|r| encode::message_of(r, scene.state, self.door).map(|text| (r.at, text)));
        let (at, document) = kept.unwrap_or_else(|| {
            let room = (&post.room, scene.state.room(&post.room));
            (scene.at, encode::message(&as_said(post, id.clone()), scene.at, room, self.door))
        });
        self.confirm(reply, id, (at, &document), out);
    }

    pub(super) fn joined(
        &mut self,
        outcome: Result<&Outcome, &Error>,
        (reply, room, before): (Reply, Option<RoomId>, Option<RoomId>),
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let entered = outcome.ok().and_then(room_of);
        match (outcome, entered.or_else(|| room.clone())) {
            (Ok(_), Some(entered)) => {
                self.hear(&entered, None, Offset(0), out);
                self.answer_done(&reply, Some(&entered), out);
                if room.is_none() {
                    self.own = Some(entered.clone());
                    self.current = Some(entered);
                }
            }
            (Ok(_), None) => self.answer_failed(&reply, NO_CONVERSATION, out),
            (Err(error), _) => {
                let Some(me) = self.me.clone() else { return };
                let meant = room.or_else(|| self.own.clone());
                let text = meant.as_ref().map(|room| errors::refused(error, &me, room, scene.state));
                if self.current == meant {
                    self.current = before;
                }
                self.answer_failed(&reply, text.as_deref().unwrap_or(NO_CONVERSATION), out);
            }
        }
    }

    /// The answer to a command about a room that gives nothing but success.
    pub(super) fn done(
        &self,
        outcome: Result<&Outcome, &Error>,
        (reply, room): (&Reply, &RoomId),
        named: bool,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        match (outcome, &self.me) {
            (Err(error), Some(me)) => {
                self.answer_failed(reply, &errors::refused(error, me, room, scene.state), out);
            }
            _ => self.answer_done(reply, Some(room).filter(|_| named), out),
        }
    }

    /// The conversation with an agent is open (notes §9): it is the current one, and its agent may be here already.
    pub(super) fn paired(
        &mut self,
        outcome: Result<&Outcome, &Error>,
        (reply, agent, before): (&Reply, &AgentId, Option<RoomId>),
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let room = match outcome.map(room_of) {
            Ok(Some(room)) => room,
            Ok(None) => return self.answer_failed(reply, NO_CONVERSATION, out),
            Err(error) => return self.answer_failed(reply, &error.message, out),
        };
        // What the client joined meanwhile stays its current one.
        if self.current == before {
            self.current = Some(room.clone());
        }
        self.hear(&room, None, Offset(0), out);
        self.answer_done(reply, Some(&room), out);
        let agent = Principal::Agent(agent.clone());
        if scene.state.online(&agent)
            && let Some(data) = encode::presence(&agent, Some(&room), scene)
        {
            self.emit(ServerEvent::Presence, data, out);
        }
    }

    /// Who is there, for members.
    pub(super) fn who_is_there(&self, reply: &Reply, room: &RoomId, scene: Scene<'_>, out: &mut Outputs) {
        let Some(me) = &self.me else { return };
        let room = match rooms::as_member(scene.state, room, me) {
            Ok(room) => room,
            Err(error) => {
                return self.answer_failed(reply, &errors::refused(&error, me, room, scene.state), out);
            }
        };
        let here = || here(room, scene.state);
        let users: Vec<&str> = here().map(Principal::id).collect();
        let agents: Vec<&str> = here().filter(|who| who.agent().is_some()).map(Principal::id).collect();
        let (users, agents) = (json(&users), json(&agents));
        let data = format!("{{\"success\":true,\"onlineUsers\":{users},\"onlineAgents\":{agents}}}");
        self.answer(reply, &data, out);
    }

    /// A page that was asked for.
    pub(super) fn page(&self, reply: &Reply, page: &[Record], scene: Scene<'_>, out: &mut Outputs) {
        let documents: Vec<String> =
            page.iter().filter_map(|r| encode::message_of(r, scene.state, self.door)).collect();
        self.answer(reply, &format!("{{\"success\":true,\"data\":[{}]}}", documents.join(",")), out);
    }
}

/// The message that a post becomes.
pub(super) fn as_said(post: &Post, id: MessageId) -> Said {
    Said {
        id,
        from: post.from.clone(),
        from_name: String::new(),
        role: post.role,
        kind: post.kind,
        content: post.content.clone(),
        parts: post.parts.clone(),
        metadata: post.metadata.clone(),
        reply_to: post.reply_to.clone(),
        platform: post.platform.clone(),
        tokens: post.tokens,
        via: None,
    }
}
