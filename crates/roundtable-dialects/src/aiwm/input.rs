//! What clients ask for: each event becomes a command, a page of the log, or both, and each is answered exactly once.

use roundtable_core::access;
use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, ClientId, MessageId, Principal, RoomId};
use roundtable_core::messages::{Content, Post, Role};
use roundtable_core::rooms::{self, JoinRoom};
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use serde_json::value::RawValue;

use super::encode::{self, Door};
use super::errors::{self, NO_CONVERSATION};
use super::login::open_pair;
use super::wire::{self, ClientEvent, Small};
use super::{AiwmSession, Pending};
use crate::session::{Ask, Output, Outputs, Scene};

/// How the client wants to hear what became of an event.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Reply {
    /// Not at all.
    Nowhere,
    /// Through an acknowledgement of Socket.IO.
    Ack(u64),
    /// In a frame with this JSON as its `id`.
    Frame(Box<str>),
}

/// A message that is being looked for.
#[derive(Debug)]
pub(super) enum Seeking {
    /// The message that a new one answers.
    Parent(Box<Saying>),
    /// The first message of a client id.
    Repeat(Reply, Box<(Post, MessageId)>),
    /// The message that somebody has read.
    Receipt(Reply, RoomId),
    /// The message that a page ends at.
    Before(Reply, RoomId, u32),
}

impl Seeking {
    /// The room in which it must have been said.
    fn room(&self) -> &RoomId {
        match self {
            Self::Parent(saying) => &saying.post.room,
            Self::Repeat(_, first) => &first.0.room,
            Self::Receipt(_, room) | Self::Before(_, room, _) => room,
        }
    }
}

/// A message on its way to the engine.
#[derive(Debug)]
pub(super) struct Saying {
    post: Post,
    client: Option<ClientId>,
    reply: Reply,
}

/// An event that waits until an earlier one of the same client has gone to the engine.
#[derive(Debug)]
pub(super) struct Held {
    event: ClientEvent,
    data: Option<Box<RawValue>>,
    reply: Reply,
}

/// Most events, and most bytes of what they carry, that wait so; one more is refused. One of any size may wait.
const MOST_HELD: (usize, usize) = (256, 1 << 20);

impl Held {
    /// Bytes of what it carries.
    fn size(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.get().len())
    }
}

pub(super) const UNKNOWN_PARENT: &str =
    "Validation error: parentId must be a message of the same conversation";
const UNKNOWN_MESSAGE: &str = "Message not found";

/// Events of the client.
impl AiwmSession {
    /// An event by its name; an unknown one gets only its acknowledgement.
    pub(super) fn named_event(
        &mut self,
        name: &str,
        data: (Option<&RawValue>, Reply),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let underscores = self.door == Door::Root && self.settings.underscore_names;
        let later = |event: &ClientEvent| matches!(event, ClientEvent::History | ClientEvent::AgentConnect);
        let known_here = |event: &ClientEvent| self.door == Door::Later || !later(event);
        match ClientEvent::named(name, underscores).filter(known_here) {
            Some(event) => self.event(event, data, scene, out),
            None => self.answer_failed(&data.1, "Unknown event", out),
        }
    }

    fn event(
        &mut self,
        event: ClientEvent,
        data: (Option<&RawValue>, Reply),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let (data, reply) = data;
        if self.must_wait() {
            let size = data.map_or(0, |data| data.get().len());
            let waiting = self.held.iter().map(Held::size).sum::<usize>();
            let over = !self.held.is_empty() && waiting + size > MOST_HELD.1;
            if over || self.held.len() >= MOST_HELD.0 {
                return self.fail(&reply, "Rate limit exceeded: too many events wait", scene.at, out);
            }
            self.held.push_back(Held { event, data: data.map(RawValue::to_owned), reply });
            return;
        }
        let done = match event {
            ClientEvent::Send => {
                let done = self.send(data, &reply, scene, out);
                return done.unwrap_or_else(|error| self.fail(&reply, &error, scene.at, out));
            }
            ClientEvent::Typing => self.type_(data, &reply, scene, out),
            ClientEvent::Read => self.read(data, &reply, scene, out),
            ClientEvent::Join => self.join(data, &reply, out),
            ClientEvent::Leave => self.leave(data, &reply, out),
            ClientEvent::Online => self.online(data, &reply, out),
            ClientEvent::History => self.history(data, &reply, scene, out),
            ClientEvent::AgentConnect => self.open_with_agent(data, &reply, scene, out),
        };
        if let Err(error) = done {
            self.answer_failed(&reply, &error, out);
        }
    }

    /// The room that a client means: the one it names, else its current one.
    fn meant(&self, named: Option<String>) -> Result<RoomId, String> {
        match named {
            Some(id) => RoomId::new(&id).map_err(|_| errors::no_access(&id)),
            None => self.current.clone().ok_or_else(|| NO_CONVERSATION.to_owned()),
        }
    }

    /// The same, if this connection's principal is in it.
    fn meant_as_member(&self, named: Option<String>, scene: Scene<'_>) -> Result<RoomId, String> {
        let room = self.meant(named)?;
        let Some(me) = &self.me else { return Err(NO_CONVERSATION.into()) };
        match rooms::as_member(scene.state, &room, me) {
            Ok(_) => Ok(room),
            Err(error) => Err(errors::refused(&error, me, &room, scene.state)),
        }
    }

    fn send(
        &mut self,
        data: Option<&RawValue>,
        reply: &Reply,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), String> {
        let Some(me) = self.me.clone() else { return Err(NO_CONVERSATION.into()) };
        let send = wire::send::read(data, self.door == Door::Later)?;
        let room = self.meant(send.conversation.clone())?;
        let (client, parent) = (send.client.clone(), send.parent.clone());
        let post = post_of(send, &me, room, scene.state)?;
        let saying = Saying { post, client, reply: reply.clone() };
        let inside = scene.state.room(&saying.post.room).is_some_and(|room| room.members.contains_key(&me));
        match parent {
            Some(parent) if inside => {
                let parent = MessageId::new(&parent).map_err(|_| UNKNOWN_PARENT)?;
                self.seek(parent, Seeking::Parent(Box::new(saying)), out);
            }
            _ => self.say(saying, scene, out),
        }
        Ok(())
    }

    fn say(&mut self, saying: Saying, scene: Scene<'_>, out: &mut Outputs) {
        let Saying { post, client, reply } = saying;
        let inside = scene.state.room(&post.room).is_some_and(|room| room.members.contains_key(&post.from));
        if inside {
            self.hear(&post.room, None, Offset(0), out);
        }
        let token = self.token();
        self.pending.push_back((token, Pending::Said(reply, Box::new(post.clone()))));
        out.push(Output::Ask(Ask { client, ..Ask::new(token, Command::Post(Box::new(post))) }));
    }

    fn type_(
        &mut self,
        data: Option<&RawValue>,
        reply: &Reply,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), String> {
        let small = Small::read(data)?;
        let (room, typing) = (self.meant(small.conversation()?)?, small.typing()?);
        self.typing.retain(|(known, _)| *known != room);
        if typing {
            self.typing.push((room.clone(), scene.now.plus(self.settings.typing_ms)));
            self.arm(out);
        }
        self.ask(Pending::Typed(reply.clone(), room.clone()), Command::Type(room, typing), out);
        Ok(())
    }

    fn read(
        &mut self,
        data: Option<&RawValue>,
        reply: &Reply,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), String> {
        let small = Small::read(data)?;
        let (room, message) = (self.meant_as_member(small.conversation()?, scene)?, small.message()?);
        let message = MessageId::new(&message).map_err(|_| UNKNOWN_MESSAGE)?;
        self.seek(message, Seeking::Receipt(reply.clone(), room), out);
        Ok(())
    }

    fn join(&mut self, data: Option<&RawValue>, reply: &Reply, out: &mut Outputs) -> Result<(), String> {
        let Some(me) = self.me.clone() else { return Err(NO_CONVERSATION.into()) };
        let named = Small::read(data)?.conversation()?;
        let pending = |room, before| Pending::Joined { reply: reply.clone(), room, before };
        if let (None, Principal::Agent(agent)) = (&named, &me) {
            self.enter_own(agent, pending(None, self.current.clone()), out);
            return Ok(());
        }
        let room = self.meant(named)?;
        let before = self.current.replace(room.clone());
        let join = JoinRoom { room: room.clone(), member: me, create: None, by_key: false };
        self.ask(pending(Some(room), before), Command::JoinRoom(join), out);
        Ok(())
    }

    fn leave(&mut self, data: Option<&RawValue>, reply: &Reply, out: &mut Outputs) -> Result<(), String> {
        let Some(me) = self.me.clone() else { return Err(NO_CONVERSATION.into()) };
        let room = self.meant(Small::read(data)?.conversation()?)?;
        self.ask(Pending::Left(reply.clone(), room.clone()), Command::LeaveRoom(room, me), out);
        Ok(())
    }

    /// Answered in its turn, so that a join just before counts.
    fn online(&mut self, data: Option<&RawValue>, reply: &Reply, out: &mut Outputs) -> Result<(), String> {
        let room = self.meant(Small::read(data)?.conversation()?)?;
        self.ask(Pending::Online(reply.clone(), room), Command::Look, out);
        Ok(())
    }

    /// Opens the conversation of this user with an agent and brings the agent in.
    fn open_with_agent(
        &mut self,
        data: Option<&RawValue>,
        reply: &Reply,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), String> {
        let Some(Principal::User(_)) = &self.me else {
            return Err("Only authenticated users can emit agent:connect".into());
        };
        let id = Small::read(data)?.agent()?;
        let known = AgentId::new(&id).ok().filter(|id| scene.state.agent(id).is_some());
        let agent = known.ok_or_else(|| format!("Agent with ID {id} not found"))?;
        let open = open_pair(&agent);
        let before = self.current.clone();
        self.ask(Pending::Paired { reply: reply.clone(), agent, before }, open, out);
        Ok(())
    }

    fn history(
        &mut self,
        data: Option<&RawValue>,
        reply: &Reply,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), String> {
        let small = Small::read(data)?;
        let (limit, before) = (small.limit()?, small.before()?);
        let room = self.meant_as_member(small.conversation()?, scene)?;
        match before {
            Some(id) => {
                let id = MessageId::new(&id).map_err(|_| UNKNOWN_MESSAGE)?;
                self.seek(id, Seeking::Before(reply.clone(), room, limit), out);
            }
            None => self.read_page(reply.clone(), room, (None, limit), out),
        }
        Ok(())
    }
}

/// Reading the log: looking for a message, pages of history.
impl AiwmSession {
    pub(super) fn read_page(
        &mut self,
        reply: Reply,
        room: RoomId,
        page: (Option<Offset>, u32),
        out: &mut Outputs,
    ) {
        let token = self.token();
        self.reading.push((token, reply));
        out.push(Output::Read { token, room, before: page.0, limit: page.1 });
    }

    pub(super) fn seek(&mut self, message: MessageId, seeking: Seeking, out: &mut Outputs) {
        let token = self.token();
        self.seeking.push((token, seeking));
        out.push(Output::Find { token, message });
    }

    /// What was waiting for a message goes on.
    pub(super) fn sought(
        &mut self,
        seeking: Seeking,
        message: Option<&Record>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let found = message.filter(|record| record.room.as_ref() == Some(seeking.room()));
        match (seeking, found) {
            (Seeking::Parent(saying), Some(_)) => self.say(*saying, scene, out),
            (Seeking::Parent(saying), None) => self.fail(&saying.reply, UNKNOWN_PARENT, scene.at, out),
            (Seeking::Repeat(reply, first), found) => {
                self.confirm_repeat(&reply, &first, found, (scene, out));
            }
            (Seeking::Receipt(reply, room), Some(record)) => {
                let Event::MessagePosted(said) = &record.event else { return };
                let command = Command::MarkRead(room.clone(), said.id.clone(), record.offset);
                self.ask(Pending::Read(reply, room), command, out);
            }
            (Seeking::Before(reply, room, limit), Some(record)) => {
                self.read_page(reply, room, (Some(record.offset), limit), out);
            }
            (Seeking::Receipt(reply, _) | Seeking::Before(reply, ..), None) => {
                self.answer_failed(&reply, UNKNOWN_MESSAGE, out);
            }
        }
    }

    /// Whether it is not known yet who this is, or what it needs at its start is under way.
    pub(super) fn arriving(&self) -> bool {
        self.me.is_none() || self.arrival.is_some()
    }

    /// Whether events have to wait for something that came before them.
    fn must_wait(&self) -> bool {
        self.arriving()
            || self.catching_up
            || self.seeking.iter().any(|(_, seeking)| matches!(seeking, Seeking::Parent(_)))
    }

    /// Events that waited go on, until one of them makes the rest wait again.
    pub(super) fn release(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        while !self.must_wait() {
            let Some(held) = self.held.pop_front() else { return };
            self.event(held.event, (held.data.as_deref(), held.reply), scene, out);
        }
    }

    /// The log cannot be read.
    pub(super) fn cannot_seek(
        &mut self,
        seeking: &Seeking,
        error: &Error,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Some(me) = self.me.clone() else { return };
        let text = errors::refused(error, &me, seeking.room(), scene.state);
        match seeking {
            Seeking::Parent(saying) => self.fail(&saying.reply, &text, scene.at, out),
            Seeking::Repeat(reply, first) => self.confirm_repeat(reply, first, None, (scene, out)),
            Seeking::Receipt(reply, _) | Seeking::Before(reply, ..) => self.answer_failed(reply, &text, out),
        }
    }
}

/// The command of a message that somebody may send. Fails with the text for the client if its role or sender is not theirs.
pub(super) fn post_of(
    send: wire::send::Send,
    me: &Principal,
    room: RoomId,
    state: &State,
) -> Result<Post, String> {
    if send.participant.is_some_and(|id| id != me.id()) {
        return Err("Permission denied: participantId must be your own".into());
    }
    let allowed = match (me, send.role) {
        (Principal::Agent(_), _) | (_, Role::User) => true,
        (_, Role::System) => access::may_operate(state, me),
        (_, Role::Assistant | Role::Tool) => false,
    };
    if !allowed {
        return Err(format!("Permission denied: you may not use the role {}", encode::role(send.role)));
    }
    Ok(Post {
        room,
        from: me.clone(),
        role: send.role,
        kind: send.kind,
        content: Content::Text(send.content),
        parts: Some(send.parts),
        metadata: None,
        reply_to: send.parent,
        platform: None,
        tokens: send.tokens,
    })
}
