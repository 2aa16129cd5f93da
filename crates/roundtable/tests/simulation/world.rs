//! The world of the simulation: workspaces on one log, connections that listen and ask, and everything that can go wrong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundtable::log::{AppendError, Log, Page, Sought, Span};
use roundtable::runner::batch::Question;
use roundtable::runner::{Audience, Committed, Handle, News, Pace, ReplyTo, View, Workspaces};
use roundtable_core::access;
use roundtable_core::agents::{AgentCard, RegisterAgent};
use roundtable_core::cluster::ServerStarted;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Topic, replays};
use roundtable_core::event::{Event, Record};
use roundtable_core::feeds::Feed;
use roundtable_core::following::{Advance, Fate, Following, Round};
use roundtable_core::ids::{ClientId, ConnectionId, NodeId, Principal, UserId, WorkspaceId};
use roundtable_core::messages::Post;
use roundtable_core::repeats::CommandHash;
use roundtable_core::signal::SignalBody;
use roundtable_core::time::{Cursor, Offset};
use roundtable_core::users::{UserAdded, UserRole, WorkspaceCreated};
use roundtable_dialects::session::{Ask, Token};
use tokio::task::JoinHandle;

use crate::commands::{self, Dice, Kinds};
use crate::faulty::{Fault, FaultyLog};
use crate::model::{Ear, Ledger, Model};

const WORKSPACES: [&str; 2] = ["north", "south"];

/// Takes down what the runners hand out.
#[derive(Default)]
struct Ears(Mutex<VecDeque<Arc<Committed>>>);

impl Audience for Ears {
    fn committed(&self, batch: Arc<Committed>) {
        self.0.lock().unwrap().push_back(batch);
    }
}

/// A server process.
struct Node {
    ears: Arc<Ears>,
    workspaces: Workspaces,
    runners: Vec<JoinHandle<()>>,
}

/// A connection, also while it is broken.
struct Client {
    who: Principal,
    connection: Option<ConnectionId>,
    topics: BTreeMap<Topic, Ear>,
    following: Following<Record>,
    reading: Option<Reading>,
}

/// A round of reading back that is under way.
struct Reading {
    round: Round,
    view: View,
    records: VecDeque<Record>,
    last: Offset,
    whole: bool,
}

/// One workspace on one node.
struct Place {
    node: usize,
    workspace: usize,
    handle: Handle,
    model: Model,
    clients: Vec<Client>,
}

/// A question, to recognise its answer and to ask it again.
#[derive(Clone)]
struct Asked {
    by: Principal,
    actor: Option<Principal>,
    client: Option<ClientId>,
    command: Command,
    place: usize,
}

pub struct World {
    dice: Dice,
    kinds: Kinds,
    log: Arc<FaultyLog>,
    nodes: Vec<Node>,
    places: Vec<Place>,
    ledgers: Vec<Ledger>,
    asked: BTreeMap<u32, Asked>,
    history: Vec<(usize, Asked)>,
    epochs: [u32; WORKSPACES.len()],
    next: u64,
    full: bool,
}

fn id(workspace: usize) -> WorkspaceId {
    WorkspaceId::new(WORKSPACES[workspace]).unwrap()
}

async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

impl World {
    /// Plays one world from its seed. Panics where a promise is broken.
    pub async fn play(seed: u64, fault: Fault, steps: usize) {
        let mut dice = Dice(seed);
        // Behind is for several nodes, and those need every record synced before it is handed out.
        let two_nodes = dice.once_in(6);
        let kinds = Kinds { relaxed: !two_nodes && dice.once_in(2), ephemeral: dice.once_in(2) };
        let mut world = Self {
            dice,
            kinds,
            log: Arc::new(FaultyLog::new(fault)),
            nodes: Vec::new(),
            places: Vec::new(),
            ledgers: WORKSPACES.iter().map(|_| Ledger::default()).collect(),
            asked: BTreeMap::new(),
            history: Vec::new(),
            epochs: [1; WORKSPACES.len()],
            next: 1,
            full: false,
        };
        world.start(1 + usize::from(two_nodes));
        world.found().await;
        for _ in 0..steps {
            world.step().await;
        }
        world.full(false);
        world.restart(true).await;
        world.everybody_comes_back().await;
        world.hush().await;
        // A node learns what the other one wrote when it writes itself.
        world.announce();
        world.hush().await;
        world.read_on(|_| 100_000);
        world.look_back();
    }

    /// Waits until every question is answered.
    async fn hush(&mut self) {
        for _ in 0..10_000 {
            self.log.memory.sync(usize::MAX);
            settle().await;
            self.listen();
            if self.asked.is_empty() {
                return;
            }
            // After a slow sync a runner waits a moment for more questions.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("questions are never answered: {:?}", self.asked.values().next().map(|asked| &asked.command));
    }

    /// Every node says that it is there.
    fn announce(&mut self) {
        for place in 0..self.places.len() {
            let node = NodeId::new(&format!("node-{}", self.places[place].node)).unwrap();
            let started = Command::StartServer(ServerStarted { node, version: "1".into() });
            self.ask(place, (&Principal::System, None), None, started);
        }
    }

    fn start(&mut self, nodes: usize) {
        for node in 0..nodes {
            let ears = Arc::new(Ears::default());
            let (log, audience) = (Arc::clone(&self.log) as _, Arc::clone(&ears) as _);
            // Relaxed records are synced with the next durable ones or at the end, so that time plays no part.
            let hour = Duration::from_secs(3600);
            let pace = Pace { relaxed_sync: hour, snapshot: hour, ..Pace::default() };
            let workspaces = Workspaces::new(log, audience, pace, id(0));
            let mut runners = Vec::new();
            for workspace in 0..WORKSPACES.len() {
                runners.push(tokio::spawn(workspaces.start(&id(workspace)).unwrap()));
                let handle = workspaces.get(&id(workspace)).unwrap();
                let model = Model::of(&self.log.read(&id(workspace), Span::after(Offset(0))).unwrap());
                let view = handle.view();
                assert_eq!(*view.state, model.state, "P9: a start and the whole log give the same state");
                self.places.push(Place { node, workspace, handle, model, clients: Vec::new() });
            }
            self.nodes.push(Node { ears, workspaces, runners });
        }
    }

    /// The first records of every workspace, and everybody connected.
    async fn found(&mut self) {
        for place in 0..WORKSPACES.len() {
            let made = WorkspaceCreated { name: "w".into(), domain_key_hash: format!("{place}") };
            let mut commands = vec![Command::CreateWorkspace(made)];
            for (name, role) in
                [("ann", UserRole::Owner), ("vic", UserRole::Viewer), ("eve", UserRole::Viewer)]
            {
                let user = UserId::new(name).unwrap();
                commands.push(Command::AddUser(UserAdded { user, role, password: None }));
            }
            for command in commands {
                self.ask(place, (&Principal::System, None), None, command);
            }
            for n in [0, 1, 3, 4] {
                let agent = commands::agent(n);
                let vic = Principal::User(UserId::new("vic").unwrap());
                let by = if n < 3 { Principal::Agent(agent.clone()) } else { vic };
                let card = AgentCard { name: "A".into(), ..AgentCard::default() };
                self.ask(place, (&by, None), None, Command::RegisterAgent(RegisterAgent { agent, card }));
            }
            for command in commands::beginning(self.kinds) {
                let by = Principal::Agent(commands::agent(0));
                self.ask(place, (&by, None), None, command);
            }
            for who in commands::principals().iter().skip(1).step_by(2) {
                for command in commands::arrival(who) {
                    self.ask(place, (who, None), None, command);
                }
            }
        }
        settle().await;
        self.listen();
        for place in 0..self.places.len() {
            for who in commands::principals() {
                self.places[place].clients.push(Client::new(who));
                let client = self.places[place].clients.len() - 1;
                self.connect(place, client);
            }
        }
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..=59 => {
                for _ in 0..=self.dice.below(4) {
                    self.ask_anything();
                }
            }
            60..=69 => self.chat().await,
            70..=76 => self.ask_again(),
            77..=84 => {
                let place = self.dice.below(self.places.len() as u64) as usize;
                let client = self.dice.below(self.places[place].clients.len() as u64) as usize;
                match self.places[place].clients[client].connection {
                    Some(_) => self.disconnect(place, client),
                    None => self.connect(place, client),
                }
            }
            85..=88 => self.log.memory.hold(true),
            89..=91 => self.log.memory.hold(false),
            92 | 93 => self.full(true),
            94..=96 => self.restart(false).await,
            97 | 98 => self.restart(true).await,
            _ => self.everybody_comes_back().await,
        }
        if self.full && self.dice.once_in(3) {
            self.full(false);
        }
        settle().await;
        let waiting = self.log.memory.waiting() as u64;
        self.log.memory.sync(self.dice.below(waiting + 2) as usize);
        settle().await;
        self.listen();
        self.read_on(|dice| dice.below(4));
        self.tune_in();
    }

    fn full(&mut self, full: bool) {
        self.full = full;
        self.log.memory.refuse(full.then_some(AppendError::Full));
    }

    /// A few words, one batch each, in the room that may be relaxed; then perhaps the lights go out.
    async fn chat(&mut self) {
        let place = self.dice.below(self.places.len() as u64) as usize;
        let by = Principal::Agent(commands::agent(0));
        for _ in 0..=self.dice.below(4) {
            self.next += 1;
            let mark = format!("{}/{}", WORKSPACES[self.places[place].workspace], self.next);
            let client = self.dice.once_in(2).then(|| ClientId::new(&format!("c{}", self.next)).unwrap());
            let post = Post::text(commands::room(commands::CHAT), by.clone(), mark);
            self.ask(place, (&by, None), client, Command::Post(Box::new(post)));
            settle().await;
            self.log.memory.sync(1);
            settle().await;
            self.listen();
            if self.dice.once_in(3) {
                let client = self.dice.below(self.places[place].clients.len() as u64) as usize;
                self.disconnect(place, client);
                self.connect(place, client);
            }
        }
        if self.dice.once_in(4) {
            self.restart(false).await;
        }
    }

    fn ask_anything(&mut self) {
        let place = self.dice.below(self.places.len() as u64) as usize;
        let everybody = commands::principals();
        let by = self.dice.pick(&everybody).clone();
        let own = Principal::Agent(commands::agent(3 + self.dice.below(2)));
        let actor = (by.user().is_some() && self.dice.once_in(3)).then_some(own);
        self.next += 1;
        let client = self.dice.once_in(2).then(|| ClientId::new(&format!("c{}", self.next)).unwrap());
        let mark = format!("{}/{}", WORKSPACES[self.places[place].workspace], self.next);
        let speaker = actor.as_ref().unwrap_or(&by);
        let command = commands::any(speaker, &mark, self.kinds, &mut self.dice);
        let (by, actor) = match command {
            Command::ChangeUser(_) => (Principal::User(UserId::new("ann").unwrap()), None),
            _ => (by, actor),
        };
        self.ask(place, (&by, actor), client, command);
    }

    /// A client that heard nothing, or did not like what it heard, asks the same again, maybe on another node.
    fn ask_again(&mut self) {
        if self.history.is_empty() {
            return;
        }
        let recent = self.history.len().saturating_sub(30);
        let (workspace, Asked { by, actor, client, mut command, .. }) =
            self.dice.pick(&self.history[recent..]).clone();
        // Now and then something else by the same name.
        if self.dice.once_in(3) {
            let mark = format!("{}/other/{}", WORKSPACES[workspace], self.next);
            command = commands::any(actor.as_ref().unwrap_or(&by), &mark, self.kinds, &mut self.dice);
        }
        let places: Vec<usize> =
            (0..self.places.len()).filter(|place| self.places[*place].workspace == workspace).collect();
        let place = *self.dice.pick(&places);
        for _ in 0..=self.dice.below(2) {
            self.ask(place, (&by, actor.clone()), client.clone(), command.clone());
        }
    }

    fn ask(
        &mut self,
        place: usize,
        (by, actor): (&Principal, Option<Principal>),
        client: Option<ClientId>,
        command: Command,
    ) {
        self.next += 1;
        let workspace = self.places[place].workspace;
        let asked = Asked { by: by.clone(), actor, client, command, place };
        if let Some(client) = &asked.client {
            let speaker = asked.actor.as_ref().unwrap_or(by);
            self.ledgers[workspace].refused.remove(&(speaker.clone(), client.clone()));
            self.history.push((workspace, asked.clone()));
        }
        let connections = self.places[place].clients.iter().filter(|client| client.who == *by);
        let connection = connections.filter_map(|client| client.connection).next();
        self.put(asked, connection);
    }

    fn put(&mut self, asked: Asked, connection: Option<ConnectionId>) {
        let token = Token(self.next as u32);
        let mut ask = Ask::new(token, asked.command.clone());
        (ask.actor, ask.client) = (asked.actor.clone(), asked.client.clone());
        let to = connection.unwrap_or(ConnectionId(0));
        let reply = ReplyTo::Session { shard: 0, connection: to, slot: 0, token };
        self.places[asked.place].handle.put(Question { by: asked.by.clone(), connection, ask, reply });
        self.asked.insert(token.0, asked);
    }

    fn connect(&mut self, place: usize, client: usize) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        self.places[place].clients[client].connection = Some(connection);
        let by = self.places[place].clients[client].who.clone();
        let asked = Asked { by, actor: None, client: None, command: Command::Connect(None), place };
        self.put(asked, Some(connection));
        let topics: Vec<Topic> = self.places[place].clients[client].topics.keys().cloned().collect();
        for topic in topics {
            self.resume(place, client, &topic);
        }
    }

    fn disconnect(&mut self, place: usize, client: usize) {
        self.next += 1;
        let by = self.places[place].clients[client].who.clone();
        let connection = self.places[place].clients[client].hang_up();
        self.put(Asked { by, actor: None, client: None, command: Command::Disconnect, place }, connection);
    }

    /// Goes on from where the connection broke, as the shards do it: the log is read bit by bit, while others talk.
    fn resume(&mut self, place: usize, client: usize, topic: &Topic) {
        let Place { handle, model, clients, .. } = &mut self.places[place];
        let (view, client) = (handle.view(), &mut clients[client]);
        if !access::may_receive(&view.state, &client.who, topic) {
            client.topics.remove(topic);
            return;
        }
        let Some(ear) = client.topics.get_mut(topic) else { return };
        let (head, epoch) = (view.state.head, view.epochs.current());
        if !view.epochs.holds(ear.cursor, head) {
            assert_ne!(ear.cursor.epoch, epoch, "P3: a cursor of this epoch holds");
            *ear = Ear::at(Cursor { epoch, offset: head });
        }
        assert!(model.may_hear(&client.who, topic), "P7: {} resumes {topic:?}", client.who);
        client.following.subscribe(topic, Some(ear.cursor.offset), model.head());
    }

    /// Whoever is behind reads on: so many bits of the log, or until it is live.
    fn read_on(&mut self, most: impl Fn(&mut Dice) -> u64) {
        for place in 0..self.places.len() {
            let Place { handle, model, clients, workspace, .. } = &mut self.places[place];
            for client in clients.iter_mut().filter(|client| client.connection.is_some()) {
                for _ in 0..most(&mut self.dice) {
                    if !client.following.is_behind() {
                        break;
                    }
                    client.read(&self.log, &id(*workspace), &handle.view(), model);
                }
            }
        }
    }

    /// Connections listen to something more, now and then.
    fn tune_in(&mut self) {
        let place = self.dice.below(self.places.len() as u64) as usize;
        let everybody = commands::principals();
        let topic = match self.dice.below(8) {
            0..=4 => Topic::Room(commands::room(self.dice.below(5))),
            5 | 6 => Topic::Principal(self.dice.pick(&everybody).clone()),
            _ => Topic::Feed(*self.dice.pick(&[Feed::Activity, Feed::Monitoring])),
        };
        let (view, head) = (self.places[place].handle.view(), self.places[place].model.head());
        for client in self.places[place].clients.iter_mut().filter(|client| client.connection.is_some()) {
            if access::may_receive(&view.state, &client.who, &topic) {
                let cursor = Cursor { epoch: view.epochs.current(), offset: view.state.head };
                if !client.topics.contains_key(&topic) {
                    client.topics.insert(topic.clone(), Ear::at(cursor));
                    client.following.subscribe(&topic, Some(cursor.offset), head);
                }
            }
        }
    }

    /// Takes in what the runners handed out, and checks it.
    fn listen(&mut self) {
        for node in 0..self.nodes.len() {
            loop {
                let batch = self.nodes[node].ears.0.lock().unwrap().pop_front();
                let Some(batch) = batch else { break };
                let place = self
                    .places
                    .iter()
                    .position(|place| place.node == node && id(place.workspace) == batch.workspace);
                self.hear(place.unwrap(), &batch);
                let state = &self.places[place.unwrap()].model.state;
                assert_eq!(*batch.view.state, *state, "P9: the state is the fold over the log");
            }
        }
        for node in &self.nodes {
            assert!(node.runners.iter().all(|runner| !runner.is_finished()), "a runner ended by itself");
        }
    }

    fn hear(&mut self, place: usize, batch: &Committed) {
        for news in &batch.news {
            match news {
                News::Record(record, topics, _) => self.places[place].record(record, topics, &batch.view),
                News::Signal(signal, topics, _) => {
                    let Place { model, clients, .. } = &mut self.places[place];
                    if let SignalBody::Message(message) = &signal.body {
                        model.messages.insert(message.id.clone());
                    }
                    for topic in topics {
                        for client in clients.iter().filter(|client| client.hears(topic)) {
                            let may = model.may_hear(&client.who, topic);
                            model.heard(&client.who, topic, may);
                        }
                    }
                }
                News::Reply { token, reply, .. } => {
                    let asked = self.asked.remove(&token.0).expect("one answer to each question");
                    let workspace = self.places[place].workspace;
                    let same = |other: &&Asked| {
                        other.client == asked.client && self.places[other.place].workspace == workspace
                    };
                    // A refusal is the last word unless the same is still asked, or another node knows more.
                    let final_word = self.nodes.len() == 1 && !self.asked.values().any(|other| same(&other));
                    if reply.is_ok() || final_word {
                        let write = (asked.actor.as_ref().unwrap_or(&asked.by), asked.client.as_ref());
                        let model = &self.places[place].model;
                        if let (Ok(_), Some(written)) = (reply, model.written(write)) {
                            let wished = CommandHash::of(&asked.command);
                            assert!(written.agrees(wished), "P4: {:?} got another's result", asked.client);
                        }
                        self.ledgers[workspace].replied(model, write, reply.as_ref().map_err(drop));
                    }
                }
            }
            if let News::Record(record, ..) = news {
                self.ledgers[self.places[place].workspace].happened(record);
            }
        }
        self.places[place].model.batch_ends();
    }

    /// All processes end, by a power cut or in good order, and start again from the log.
    async fn restart(&mut self, in_order: bool) {
        let nodes = self.nodes.len();
        if in_order {
            self.log.memory.hold(false);
            self.log.memory.sync(usize::MAX);
        }
        let places = std::mem::take(&mut self.places);
        let mut old: Vec<(usize, Model, Vec<Client>)> = Vec::new();
        for node in std::mem::take(&mut self.nodes) {
            node.workspaces.stop();
            if !in_order {
                node.runners.iter().for_each(JoinHandle::abort);
            }
            self.nodes.push(node);
        }
        for Place { workspace, model, clients, .. } in places {
            old.push((workspace, model, clients));
        }
        for node in &mut self.nodes {
            for runner in node.runners.drain(..) {
                let ended = runner.await;
                assert!(
                    ended.is_ok() || (!in_order && ended.is_err_and(|e| e.is_cancelled())),
                    "a runner failed"
                );
            }
        }
        self.overhear(&mut old);
        self.nodes.clear();
        self.log.memory.crash();
        self.asked.clear();
        self.start(nodes);
        for (place, (workspace, before, clients)) in old.into_iter().enumerate() {
            self.compare(place, workspace, &before, in_order);
            self.places[place].clients = clients;
            for client in &mut self.places[place].clients {
                client.hang_up();
            }
        }
        self.announce();
        // Who has not heard what became of its last writes asks again.
        for _ in 0..3 {
            self.ask_again();
        }
    }

    /// What was still handed out while the processes ended.
    fn overhear(&mut self, old: &mut [(usize, Model, Vec<Client>)]) {
        for (node, ears) in self.nodes.iter().map(|node| &node.ears).enumerate() {
            for batch in ears.0.lock().unwrap().drain(..) {
                let workspace = WORKSPACES.iter().position(|name| *name == batch.workspace.as_str()).unwrap();
                let (_, model, clients) = &mut old[node * WORKSPACES.len() + workspace];
                for news in &batch.news {
                    match news {
                        News::Record(record, topics, _) => {
                            take_in(model, clients, record, topics, &batch.view)
                        }
                        News::Signal(..) => {}
                        News::Reply { token, .. } => drop(self.asked.remove(&token.0)),
                    }
                }
                model.batch_ends();
            }
        }
    }

    /// What the log holds after a start against what was handed out before it.
    fn compare(&mut self, place: usize, workspace: usize, before: &Model, in_order: bool) {
        let now = &self.places[place].model;
        let kept = before.records.len().min(now.records.len());
        assert_eq!(before.records[..kept], now.records[..kept], "P1: history does not change");
        let lost = &before.records[kept..];
        for record in lost {
            assert!(before.may_be_lost(record), "P1: {record:?} was handed out and is lost");
        }
        let epoch = self.places[place].handle.view().epochs.current();
        if lost.is_empty() && in_order && !self.full {
            assert_eq!(epoch, self.epochs[workspace], "P3: nothing was lost, so every cursor holds");
        }
        assert!(self.kinds.relaxed || epoch == 1, "P3: without relaxed rooms every cursor holds");
        self.epochs[workspace] = epoch;
        let said = &now.said;
        self.ledgers[workspace].results.retain(|key, _| said.contains_key(key));
        let verified = self.log.verify(&id(workspace)).unwrap();
        assert_eq!((verified.sound, verified.broken), (now.head().0, None));
    }

    async fn everybody_comes_back(&mut self) {
        settle().await;
        self.listen();
        for place in 0..self.places.len() {
            for client in 0..self.places[place].clients.len() {
                if self.places[place].clients[client].connection.is_none() {
                    self.connect(place, client);
                }
            }
        }
        self.read_on(|_| 100_000);
    }

    /// At the end: everybody has heard everything, rooms read back as they were.
    fn look_back(&mut self) {
        for Place { workspace, model, clients, .. } in &self.places {
            let workspace = id(*workspace);
            for client in clients {
                assert!(!client.following.is_behind(), "P3: {} is live when nothing happens", client.who);
                for (topic, ear) in &client.topics {
                    assert_eq!(
                        ear.heard,
                        model.expected(topic, ear.start),
                        "P3: {} on {topic:?}",
                        client.who
                    );
                }
            }
            for n in 0..5 {
                let room = commands::room(n);
                let said = |record: &&Record| {
                    record.room.as_ref() == Some(&room) && matches!(record.event, Event::MessagePosted(_))
                };
                let all: Vec<&Record> = model.records.iter().filter(said).collect();
                let page = self.log.read_room(&workspace, &room, Page::of(None, 5)).unwrap();
                let newest: Vec<&Record> = all.iter().rev().take(5).rev().copied().collect();
                assert_eq!(page.iter().collect::<Vec<_>>(), newest, "the newest page of {room}");
                if let Some(Event::MessagePosted(message)) = all.first().map(|record| &record.event) {
                    let found = self.log.find_message(&workspace, &message.id).unwrap();
                    assert_eq!(found.as_ref(), all.first().copied());
                }
            }
        }
    }
}

/// Bytes that a client may hold while it is behind: a few records.
const MOST_HELD: usize = 2_000;

impl Client {
    fn new(who: Principal) -> Self {
        let (topics, following) = (BTreeMap::new(), Following::default());
        Self { who, connection: None, topics, following, reading: None }
    }

    fn hears(&self, topic: &Topic) -> bool {
        self.connection.is_some() && self.topics.contains_key(topic)
    }

    /// Its connection ends, and with it all work for it.
    fn hang_up(&mut self) -> Option<ConnectionId> {
        (self.following, self.reading) = (Following::default(), None);
        self.connection.take()
    }

    fn hear(&mut self, record: &Record, topic: &Topic, view: &View) {
        // What cannot be read back is not promised to who reads too slowly.
        if let Some(ear) = self.topics.get_mut(topic).filter(|_| replays(record, topic)) {
            ear.hear(record.offset, view.epochs.current());
        }
    }

    /// A record happens; now and then the client has no room for it.
    fn meet(&mut self, record: &Record, topic: &Topic, view: &View) {
        let room = !(record.offset.0 + self.who.id().len() as u64).is_multiple_of(7);
        match self.following.meet(topic, record.offset, room) {
            Fate::Deliver => self.hear(record, topic, view),
            Fate::Skip => {}
            Fate::Hold => {
                let (to, what) = ((topic, replays(record, topic)), (record.offset, record.event.weight()));
                self.following.hold(to, what, MOST_HELD, || record.clone());
            }
        }
    }

    /// One step of reading back.
    fn read(&mut self, log: &FaultyLog, workspace: &WorkspaceId, view: &View, model: &Model) {
        const PAGE: usize = 3;
        let Some(mut reading) = self.reading.take() else {
            self.reading = self.following.begin(view.state.head).map(|round| {
                let last = round.topics.iter().map(|(_, after)| *after).min().unwrap_or_default();
                Reading { round, view: view.clone(), records: VecDeque::new(), last, whole: false }
            });
            return;
        };
        let Round { generation, upto, topics } = &mut reading.round;
        if let Some(record) = reading.records.pop_front() {
            assert!(record.offset > reading.last, "P3: {:?} is read again or out of order", record.offset);
            let same = model.records.get(record.offset.0 as usize - 1).is_none_or(|known| *known == record);
            assert!(same, "P3: another record at {:?}", record.offset);
            reading.last = record.offset;
            while let Some(held) = self.following.due(*generation, record.offset) {
                held.topics.iter().for_each(|topic| self.hear(&held.item, topic, view));
            }
            let Some(topics) = self.following.read(*generation, &record) else { return };
            for topic in &topics {
                assert!(model.may_hear(&self.who, topic), "P7: {} reads {topic:?}", self.who);
                self.hear(&record, topic, view);
            }
        } else if !reading.whole {
            let places =
                log.places(workspace, &Sought { topics, upto: *upto, limit: PAGE, newest: false }).unwrap();
            let page = log.read_at(workspace, &places, 400).unwrap();
            reading.whole = page.len() == places.len() && places.len() < PAGE;
            let last = page.last().map_or(Offset(0), |record| record.offset);
            topics.iter_mut().for_each(|(_, after)| *after = (*after).max(last));
            reading.records.extend(page);
            if reading.whole {
                let synced = reading.records.back().map_or(reading.last, |record| record.offset);
                let early = reading.view.unsynced().filter(|record| record.offset > synced);
                reading.records.extend(early.cloned());
            }
        } else {
            match self.following.advance(*generation) {
                Advance::Hand(held) => {
                    held.topics.iter().for_each(|topic| self.hear(&held.item, topic, view));
                }
                Advance::Again | Advance::Live => return,
            }
        }
        self.reading = Some(reading);
    }
}

impl Place {
    fn record(&mut self, record: &Record, topics: &[Topic], view: &View) {
        take_in(&mut self.model, &mut self.clients, record, topics, view);
    }
}

/// A record is handed out: everybody who listens hears it, nobody else.
fn take_in(model: &mut Model, clients: &mut [Client], record: &Record, topics: &[Topic], view: &View) {
    let before: Vec<bool> =
        clients.iter().flat_map(|c| topics.iter().map(|topic| model.may_hear(&c.who, topic))).collect();
    model.push(record);
    let mut before = before.into_iter();
    for client in clients {
        for topic in topics {
            let might = before.next().unwrap();
            if client.hears(topic) {
                let may = might || model.may_hear(&client.who, topic);
                model.heard(&client.who, topic, may);
            }
        }
        if client.connection.is_none() {
            continue;
        }
        for topic in client.topics.keys().filter(|topic| replays(record, topic)) {
            assert!(topics.contains(topic), "P3: {:?} is kept from {topic:?}", record.event);
        }
        for topic in topics {
            if client.following.follows(topic) {
                client.meet(record, topic, view);
            }
        }
        let touched = |topic: &Topic| match record.event {
            Event::RoomLeft(_) | Event::RoomRemoved(_) | Event::AgentRemoved(_) => topics.contains(topic),
            Event::UserChanged(_) | Event::UserRemoved(_) => true,
            _ => false,
        };
        let Client { who, topics, following, .. } = client;
        topics.retain(|topic, _| {
            let stays = !touched(topic) || access::may_receive(&view.state, who, topic);
            if !stays {
                following.unsubscribe(topic);
            }
            stays
        });
    }
}
