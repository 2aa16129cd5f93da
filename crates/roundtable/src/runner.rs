//! The runner: one per workspace, gathers questions, lets the engine decide them, makes the result durable, hands it out.
//!
//! While one batch is being synced the next one gathers, so the group commit needs no timer. What a shard gets is one
//! [`Committed`] per batch, shared by all shards.

pub mod batch;
mod budget;
pub mod counters;
mod ends;
mod filter;
pub mod find;
pub mod latency;
pub mod log_time;
pub mod quotas;
pub mod repeats;
mod taking;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use imbl::Vector;
use roundtable_core::command::Command;
use roundtable_core::delivery::Topics;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ConnectionId, KeyId, Principal, WorkspaceId};
use roundtable_core::signal::Signal;
use roundtable_core::state::State;
use roundtable_core::time::{Moment, Offset};
use roundtable_dialects::session::{Ask, Token};
use tokio::sync::{mpsc, oneshot, watch};

use crate::auth::Directory;
use crate::clock;
use crate::log::{Append, Appended, Epochs, Log};
use crate::telemetry::recurring::Recurring;
use batch::{Batch, Question, Step};
use budget::Budgets;
use counters::Counters;
use log_time::LogTime;
use quotas::Quotas;
use repeats::Repeats;
pub use view::View;

/// The most questions of one batch: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 2_048;
/// A sync that takes longer, in microseconds, is worth a moment's wait for those who are about to ask again.
const SLOW_SYNC_US: u64 = 2_000;
/// Questions in the queue to the engine that count as a full one: as many as sixteen batches hold. Whoever asks then waits
/// for fifteen syncs of others. (The queue itself is bounded by what each connection may have unanswered.)
pub const QUEUE_BOUND: u64 = 16 * MAX_BATCH as u64;
/// That moment.
const MOMENT: Duration = Duration::from_millis(1);
/// Records after which a snapshot is kept even before its time: what a start has to read again at most.
const SNAPSHOT_RECORDS: u64 = 50_000;
/// Relaxed records that may wait for the disk before everything waits for it.
const MAX_UNSYNCED: usize = 8_192;

/// How long what is due waits after the log refused it, in milliseconds.
const TICK_AGAIN_MS: u64 = 1_000;

/// How often a runner does what nobody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a record of a relaxed room may wait for the disk.
    pub relaxed_sync: Duration,
    /// How often the state is kept beside the log.
    pub snapshot: Duration,
    /// How long the last one may take, at a stop.
    pub last_snapshot: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            relaxed_sync: Duration::from_secs(1),
            snapshot: Duration::from_secs(60),
            last_snapshot: Duration::from_secs(1),
        }
    }
}

/// A question, and when it was asked: monotonic, in microseconds.
type Asked = (u64, Question<ReplyTo>);

/// Whom an answer goes to.
#[derive(Debug)]
pub enum ReplyTo {
    /// A session on a shard.
    Session {
        /// The shard.
        shard: u16,
        /// The connection.
        connection: ConnectionId,
        /// Its session.
        slot: u8,
        /// What the session calls the question.
        token: Token,
    },
    /// A caller that waits.
    Caller(oneshot::Sender<Result<(Outcome, Arc<State>), Error>>),
    /// Nobody.
    Nobody,
}

/// One batch on its way to the shards.
#[derive(Debug)]
pub struct Committed {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// How it stands now.
    pub view: View,
    /// What happened, in order.
    pub news: Vec<News>,
}

/// One thing in a batch.
#[derive(Debug)]
pub enum News {
    /// A record for the subscribers of some topics.
    Record(Arc<Record>, Topics, Option<ConnectionId>),
    /// A signal for the subscribers of some topics.
    Signal(Signal, Topics, Option<ConnectionId>),
    /// An answer for one session.
    Reply {
        /// On this shard.
        shard: u16,
        /// On this connection.
        connection: ConnectionId,
        /// For this session.
        slot: u8,
        /// To this question.
        token: Token,
        /// The answer.
        reply: Result<Outcome, Error>,
    },
}

/// Who takes committed batches: the shards, and whoever else watches.
pub trait Audience: Send + Sync {
    /// Takes a batch. Must not block.
    fn committed(&self, batch: Arc<Committed>);
}

/// A workspace that is running: questions go in, its newest state can be looked at.
#[derive(Clone)]
pub struct Handle {
    workspace: WorkspaceId,
    inbox: mpsc::UnboundedSender<Asked>,
    view: Arc<ArcSwap<View>>,
    head: watch::Receiver<Offset>,
    counters: Arc<Counters>,
}

impl Handle {
    /// Which workspace it is.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    /// The state after the newest committed batch.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The present by its log time and by the wall clock.
    pub fn moment(&self) -> Moment {
        Moment { t: self.view.load().now(), at: clock::now() }
    }

    /// What its runner counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether its runner still takes questions.
    pub fn runs(&self) -> bool {
        !self.inbox.is_closed()
    }

    /// Resolves when something is committed beyond an offset; never if the runner ends before.
    pub async fn beyond(&self, offset: Offset) {
        let mut head = self.head.clone();
        if head.wait_for(|head| *head > offset).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks without waiting. What is asked after the runner ended is lost with its answer: the process is ending too.
    pub fn put(&self, question: Question<ReplyTo>) {
        self.counters.asked();
        let _ = self.inbox.send((clock::monotonic_us(), question));
    }

    /// Asks and waits until the answer is durable. Fails as the engine does, or with `Unavailable` at the end.
    pub async fn ask(&self, by: &Principal, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        let (sender, answer) = oneshot::channel();
        self.put(Question { by: by.clone(), connection: None, ask, reply: ReplyTo::Caller(sender) });
        answer
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the server is shutting down")))
    }
}

/// All running workspaces.
pub struct Workspaces {
    log: Arc<dyn Log>,
    audience: Arc<dyn Audience>,
    pace: Pace,
    quotas: Arc<ArcSwap<Quotas>>,
    running: RwLock<HashMap<WorkspaceId, Handle>>,
    default: WorkspaceId,
}

impl Workspaces {
    /// No workspace runs yet.
    pub fn new(log: Arc<dyn Log>, audience: Arc<dyn Audience>, pace: Pace, default: WorkspaceId) -> Self {
        Self { log, audience, pace, quotas: Arc::default(), running: RwLock::default(), default }
    }

    /// From now on there are other limits on what is written and kept.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.quotas.store(Arc::new(quotas));
    }

    /// Starts a workspace from its log, empty or not. Must be called within the runtime that is to drive it. The returned
    /// future ends when every handle is gone and the last batch is synced.
    pub fn start(&self, workspace: &WorkspaceId) -> Result<impl Future<Output = ()> + use<>, Error> {
        let loaded = self.log.load(workspace)?;
        let epochs = Arc::new(loaded.epochs);
        let state = Arc::new(loaded.state.clone());
        let log_time = LogTime::after_a_stop(loaded.state.end(), clock::now(), clock::monotonic_ms());
        let view = View { state, epochs: Arc::clone(&epochs), log_time, unsynced: Vector::new() };
        let view = Arc::new(ArcSwap::from_pointee(view));
        let (inbox, questions) = mpsc::unbounded_channel();
        let (head_at, head) = watch::channel(loaded.state.head);
        let counters = Arc::new(Counters::default());
        let handle = Handle {
            workspace: workspace.clone(),
            inbox,
            view: Arc::clone(&view),
            head,
            counters: Arc::clone(&counters),
        };
        let runner = Runner {
            workspace: workspace.clone(),
            log: Arc::clone(&self.log),
            audience: Arc::clone(&self.audience),
            snapshot: (loaded.state.head, clock::monotonic_ms()),
            state: loaded.state,
            epochs,
            log_time,
            tick_again: 0,
            may_be_early: false,
            view,
            head_at,
            questions,
            budgets: Budgets::new(Arc::clone(&self.quotas)),
            repeats: Repeats::load(&*self.log, workspace)?,
            opening: Vec::new(),
            trouble: Recurring::default(),
            unsynced: Vector::new(),
            pace: self.pace,
            synced: (0, 0),
            counters,
        };
        if let Ok(mut running) = self.running.write() {
            running.insert(workspace.clone(), handle);
        }
        Ok(runner.run())
    }

    /// A running workspace.
    pub fn get(&self, workspace: &WorkspaceId) -> Option<Handle> {
        self.running.read().ok()?.get(workspace).cloned()
    }

    /// The workspace of the dialects that know none.
    pub fn default_id(&self) -> &WorkspaceId {
        &self.default
    }

    /// All running workspaces.
    pub fn all(&self) -> Vec<Handle> {
        self.running.read().map(|running| running.values().cloned().collect()).unwrap_or_default()
    }

    /// The log under them.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// Lets every runner end once what was asked before is answered.
    pub fn stop(&self) {
        if let Ok(mut running) = self.running.write() {
            running.clear();
        }
    }
}

impl Directory for Workspaces {
    fn state(&self, workspace: &WorkspaceId) -> Option<Arc<State>> {
        self.get(workspace).map(|handle| Arc::clone(&handle.view().state))
    }

    fn moment(&self, workspace: &WorkspaceId) -> Moment {
        self.get(workspace).map_or_else(Moment::default, |handle| handle.moment())
    }

    fn by_domain_key_hash(&self, hash: &str) -> Option<WorkspaceId> {
        let running = self.running.read().ok()?;
        running.iter().find(|(_, h)| h.view().state.domain_key_hash == hash).map(|(id, _)| id.clone())
    }

    fn default_workspace(&self) -> Option<WorkspaceId> {
        let id = self.default_id();
        self.get(id).filter(|handle| handle.view().state.head.0 > 0).map(|_| id.clone())
    }

    fn holding_key(&self, key: &KeyId) -> Option<WorkspaceId> {
        let running = self.running.read().ok()?;
        running.iter().find(|(_, handle)| handle.view().state.key(key).is_some()).map(|(id, _)| id.clone())
    }
}

struct Runner {
    workspace: WorkspaceId,
    log: Arc<dyn Log>,
    audience: Arc<dyn Audience>,
    state: State,
    epochs: Arc<Epochs>,
    log_time: LogTime,
    /// What is due and could not be done is not tried again before then, in monotonic milliseconds.
    tick_again: u64,
    /// The log knows that records may be handed out before they are synced.
    may_be_early: bool,
    view: Arc<ArcSwap<View>>,
    head_at: watch::Sender<Offset>,
    questions: mpsc::UnboundedReceiver<Asked>,
    budgets: Budgets,
    repeats: Repeats,
    /// That this process began, if the log has not taken it yet.
    opening: Vec<Command>,
    /// That the log takes nothing.
    trouble: Recurring,
    /// Records of relaxed rooms that were handed out and are not in the log yet, oldest first.
    unsynced: Vector<Arc<Record>>,
    pace: Pace,
    /// How long the newest batch took to be synced, in microseconds, and how many questions it held; 0 if it needed no sync.
    synced: (u64, usize),
    counters: Arc<Counters>,
    /// Head and time (monotonic milliseconds) of the newest snapshot.
    snapshot: (Offset, u64),
}

impl Runner {
    async fn run(mut self) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        let mut synced_at = clock::monotonic_ms();
        loop {
            let sync_in = Duration::from_millis(
                (synced_at + millis(self.pace.relaxed_sync)).saturating_sub(clock::monotonic_ms()),
            );
            let due = async {
                if self.unsynced.is_empty() {
                    std::future::pending().await
                } else {
                    tokio::time::sleep(sync_in).await
                }
            };
            let tick_in = self.tick_in();
            let tick = async {
                match tick_in {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = tick => {
                    self.answer(Vec::new()).await;
                    // What the log refused is tried again, but not at once.
                    self.tick_again = clock::monotonic_ms() + TICK_AGAIN_MS;
                }
                () = due => {
                    self.sync().await;
                    synced_at = clock::monotonic_ms();
                }
                taken = self.questions.recv_many(&mut waiting, MAX_BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    if self.unsynced.is_empty() {
                        synced_at = clock::monotonic_ms();
                    }
                    self.gather(&mut waiting).await;
                    let (asked_at, questions): (Vec<u64>, Vec<_>) = waiting.drain(..).unzip();
                    self.answer(questions).await;
                    self.counters.answered(&asked_at, clock::monotonic_us());
                    self.snapshot();
                }
            }
        }
        self.sync().await;
        self.last_snapshot().await;
        if self.may_be_early
            && self.unsynced.is_empty()
            && let Err(error) = self.log.settle(&self.workspace)
        {
            tracing::warn!(workspace = %self.workspace, %error, "the next start begins a new epoch");
        }
    }

    /// How long until the engine has something to do by itself. Counted to a moment that no question moves.
    fn tick_in(&self) -> Option<Duration> {
        let due = self.log_time.monotonic_of(self.state.next_deadline()?);
        let wait = due.saturating_sub(clock::monotonic_ms());
        let again = self.tick_again.saturating_sub(clock::monotonic_ms());
        Some(Duration::from_millis(if wait == 0 { again } else { wait }))
    }

    /// On a slow disk, waits a moment when fewer ask than were just answered: the others' next questions are on their way,
    /// and would otherwise wait for a whole sync of their own.
    async fn gather(&mut self, waiting: &mut Vec<Asked>) {
        let (took_us, served) = self.synced;
        if took_us < SLOW_SYNC_US || waiting.len() >= served {
            return;
        }
        tokio::time::sleep(MOMENT).await;
        while waiting.len() < MAX_BATCH
            && let Ok(question) = self.questions.try_recv()
        {
            waiting.push(question);
        }
    }

    /// Decides a batch, which begins with what is due, makes it durable as far as it must be, hands it out.
    async fn answer(&mut self, questions: Vec<Question<ReplyTo>>) {
        let questions = self.opened(questions);
        self.counters.batch(questions.len());
        loop {
            let now = Moment { t: self.log_time.now(clock::monotonic_ms()), at: clock::now() };
            let known = self.repeats.look_up((&self.log, &self.workspace), &questions, now.t).await;
            let mut till = self.budgets.till(now.t);
            let batch =
                batch::decide_all((&self.state, &known), &questions, now, &mut till, clock::random_u64);
            let paid = till.paid;
            let records = batch.records();
            let early =
                batch.relaxed && self.may_be_early && self.unsynced.len() + records.len() <= MAX_UNSYNCED;
            if records.is_empty() || early {
                self.unsynced.extend(records.iter().cloned().map(Arc::new));
                self.synced = (0, 0);
                return self.hand_out(batch, questions);
            }
            let relaxed = batch.relaxed || self.may_be_early;
            let began = clock::monotonic_us();
            match self.append(records, relaxed).await {
                Appended::Committed => {
                    self.synced = (clock::monotonic_us() - began, questions.len());
                    self.may_be_early = relaxed;
                    return self.hand_out(batch, questions);
                }
                Appended::Behind(records) => {
                    self.budgets.pay_back(paid);
                    self.catch_up(records);
                }
                Appended::Failed(error) => {
                    self.budgets.pay_back(paid);
                    self.opening = ends::opening(&questions);
                    return self.refuse(questions, &error.into());
                }
            }
        }
    }

    /// Appends what waits unsynced and then `records`, as one append.
    async fn append(&mut self, records: Arc<[Record]>, relaxed: bool) -> Appended {
        let all: Arc<[Record]> = if self.unsynced.is_empty() {
            records
        } else {
            self.unsynced.iter().map(|record| &**record).chain(records.iter()).cloned().collect()
        };
        let Some(first) = all.first() else { return Appended::Committed };
        let expected = Offset(first.offset.0.saturating_sub(1));
        let (sender, done) = oneshot::channel();
        let append = Append {
            workspace: self.workspace.clone(),
            expected,
            records: Arc::clone(&all),
            epoch: self.epochs.current(),
            relaxed,
        };
        let began = clock::monotonic_us();
        self.log.append(append, Box::new(move |appended| drop(sender.send(appended))));
        let appended = done.await.unwrap_or(Appended::Failed(crate::log::AppendError::Closed));
        match &appended {
            Appended::Committed => {
                self.unsynced.clear();
                self.repeats.synced(all.last().map_or(self.state.head, |last| last.offset));
                self.took(all.len(), clock::monotonic_us() - began);
            }
            Appended::Failed(error) => self.refused_append(error),
            Appended::Behind(_) => {}
        }
        appended
    }

    /// Brings relaxed records to the disk. If the disk refuses, they stay and are tried again.
    async fn sync(&mut self) {
        let _ = self.append(Arc::from([]), self.may_be_early).await;
    }

    /// Somebody else wrote to the log: take that in and hand it out, then decide again.
    fn catch_up(&mut self, records: Vec<Record>) {
        let mut news = Vec::with_capacity(records.len());
        for record in records {
            self.state.apply(&record);
            self.repeats.note(&record);
            let topics = roundtable_core::delivery::topics_of_record(&record, &self.state);
            news.push(News::Record(Arc::new(record), topics, None));
        }
        self.log_time = LogTime::at(self.state.t, clock::monotonic_ms());
        self.publish(news);
    }

    fn hand_out(&mut self, mut batch: Batch, questions: Vec<Question<ReplyTo>>) {
        self.repeats.note_passing(batch.passing());
        self.state = batch.state;
        let mut news = Vec::with_capacity(batch.steps.len());
        let mut callers = Vec::new();
        let said = batch.steps.iter().filter(|step| step.is_message()).count();
        self.counters.said(said as u64);
        let refusals = batch.steps.iter().filter(|step| matches!(step, Step::Reply(_, Err(_)))).count();
        self.counters.refused(refusals as u64);
        let mut replies: Vec<Option<ReplyTo>> = questions.into_iter().map(|q| Some(q.reply)).collect();
        for step in batch.steps {
            match step {
                Step::Record { record, topics, origin } => {
                    self.repeats.note(&record);
                    news.push(News::Record(Arc::new(record), topics, origin));
                }
                Step::Signal { signal, topics, origin } => news.push(News::Signal(signal, topics, origin)),
                Step::Reply(number, reply) => match replies.get_mut(number).and_then(Option::take) {
                    Some(ReplyTo::Session { shard, connection, slot, token }) => {
                        news.push(News::Reply { shard, connection, slot, token, reply });
                    }
                    Some(ReplyTo::Caller(caller)) => callers.push((caller, reply)),
                    Some(ReplyTo::Nobody) | None => {}
                },
            }
        }
        let state = self.publish(news);
        for (caller, reply) in callers {
            let _ = caller.send(reply.map(|outcome| (outcome, Arc::clone(&state))));
        }
    }

    fn refuse(&self, questions: Vec<Question<ReplyTo>>, error: &Error) {
        self.counters.refused(questions.len() as u64);
        let mut news = Vec::new();
        for question in questions {
            match question.reply {
                ReplyTo::Session { shard, connection, slot, token } => {
                    news.push(News::Reply { shard, connection, slot, token, reply: Err(error.clone()) });
                }
                ReplyTo::Caller(caller) => drop(caller.send(Err(error.clone()))),
                ReplyTo::Nobody => {}
            }
        }
        self.publish(news);
    }

    /// Makes the state visible and tells the shards. The state is visible before anybody hears of what led to it.
    fn publish(&self, news: Vec<News>) -> Arc<State> {
        let state = Arc::new(self.state.clone());
        let (epochs, unsynced) = (Arc::clone(&self.epochs), self.unsynced.clone());
        let view = View { state: Arc::clone(&state), epochs, log_time: self.log_time, unsynced };
        self.view.store(Arc::new(view.clone()));
        self.head_at.send_if_modified(|head| std::mem::replace(head, state.head) != state.head);
        self.audience.committed(Arc::new(Committed { workspace: self.workspace.clone(), view, news }));
        state
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
