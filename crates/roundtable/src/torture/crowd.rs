//! A crowd that talks by itself, through every break of its connections, and writes all of it into one ledger.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::child::Doors;
use super::ledger::Ledger;
use super::person::{ALL, Came, Card, Person};
use crate::clock;
use crate::line::{Attempt, Line};

/// How long somebody tries to come back before that counts as broken.
const PATIENCE_MS: u64 = 40_000;
/// How long the crowd may take for one step of the whole.
const STEP: Duration = Duration::from_secs(60);
/// A pause before what was refused is said again.
const AGAIN: Duration = Duration::from_millis(50);
/// What is said before anybody else speaks, so that everybody has heard something to come back to.
const BEGINNING: &str = "the-beginning";
/// What is said when nothing is under way any more.
const END: &str = "the-end";

/// What the crowd does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Gather,
    Talk,
    /// Nothing new is said; what is not acknowledged is said again until it is.
    Finish,
}

/// How the crowd talks.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Messages that each has under way.
    pub window: usize,
    /// What makes messages long.
    pub filling: String,
}

/// What came to pass, so far.
#[derive(Debug, Default)]
struct Told {
    ledger: Ledger,
    begun: usize,
    finished: usize,
    /// Refusals of each dialect: how many, and the first one's words.
    refusals: BTreeMap<&'static str, (usize, String)>,
    /// The refusals when they were forgiven last.
    silenced: BTreeMap<&'static str, (usize, String)>,
    again: usize,
    repeats: usize,
    broken: Vec<String>,
}

/// What the crowd shares.
struct Table {
    doors: watch::Sender<Option<Doors>>,
    phase: watch::Sender<Phase>,
    pace: Pace,
    told: Mutex<Told>,
    /// Somebody has told something.
    news: watch::Sender<()>,
}

/// People at work.
pub struct Crowd {
    table: Arc<Table>,
    at_work: JoinSet<()>,
    room: String,
    size: usize,
}

/// What is left when all have gone.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Acknowledged messages.
    pub taken: usize,
    /// Messages sent again.
    pub again: usize,
    /// Frames that came again under an id that was known, after crashes.
    pub repeats: usize,
    /// Messages that clients without a cursor did not hear.
    pub missed: usize,
    /// Refusals of each dialect: how many, and the first one's words.
    pub refusals: BTreeMap<&'static str, (usize, String)>,
    /// Everything that is wrong.
    pub broken: Vec<String>,
}

impl Crowd {
    /// Lets everybody come in, and begins.
    pub async fn gather(doors: &Doors, room: &str, people: Vec<Person>, pace: Pace) -> Attempt<Self> {
        let (size, room) = (people.len(), room.to_owned());
        let table = Arc::new(Table {
            doors: watch::channel(Some(doors.clone())).0,
            phase: watch::channel(Phase::Gather).0,
            pace,
            told: Mutex::default(),
            news: watch::channel(()).0,
        });
        let mut at_work = JoinSet::new();
        for person in people {
            let own = format!("{}-", person.name);
            let own = matches!(person.card, Card::MegaBot).then_some(own.as_str());
            let may_miss = matches!(person.card, Card::Aiwm { .. });
            table.tell(|told| told.ledger.reader(&person.name, own, may_miss));
            let mut part =
                Part { person, table: Arc::clone(&table), next: 1, open: VecDeque::new(), done: false };
            at_work.spawn(async move { part.take().await });
        }
        let mut crowd = Self { table, at_work, room, size };
        crowd.until("everybody is there", |told| told.begun == size).await?;
        crowd.table.tell(|told| told.begun = 0);
        crowd.announce(BEGINNING).await?;
        crowd.until("everybody has heard the beginning", |told| told.begun == size).await?;
        crowd.table.phase.send_replace(Phase::Talk);
        Ok(crowd)
    }

    /// The operator's word, which everybody hears.
    async fn announce(&self, text: &str) -> Attempt<()> {
        let Some(doors) = self.table.doors.borrow().clone() else { return Err("the server is away".into()) };
        self.table.tell(|told| told.ledger.tried(text));
        doors.say(&self.room, text).await?;
        self.table.tell(|told| told.ledger.taken(text));
        Ok(())
    }

    /// Waits until what was told is so.
    async fn until(&mut self, what: &str, so: impl Fn(&Told) -> bool) -> Attempt<()> {
        let mut news = self.table.news.subscribe();
        let waited = tokio::time::timeout(STEP, async {
            while !self.table.tell(|told| so(told) || !told.broken.is_empty()) {
                if news.changed().await.is_err() {
                    break;
                }
            }
        });
        let waited = waited.await;
        match self.table.tell(|told| told.broken.first().cloned()) {
            Some(broken) => Err(broken.into()),
            None => waited.map_err(|_| {
                let told = self.table.tell(|told| {
                    format!("{} messages acknowledged, refused: {:?}", told.ledger.count(), told.refusals)
                });
                format!("not so after {} s: {what}; {told}", STEP.as_secs()).into()
            }),
        }
    }

    /// Waits until so many more messages are acknowledged.
    pub async fn more(&mut self, messages: usize) -> Attempt<()> {
        let goal = self.table.tell(|told| told.ledger.count()) + messages;
        self.until("messages are acknowledged", |told| told.ledger.count() >= goal).await
    }

    /// Waits until each of these dialects has refused something since the last [`Crowd::forgive`].
    pub async fn refused(&mut self, dialects: &[&'static str]) -> Attempt<()> {
        let new = |told: &Told, dialect| {
            told.refusals.get(dialect).map(|(count, _)| count)
                > told.silenced.get(dialect).map(|(count, _)| count)
        };
        let all = |told: &Told| dialects.iter().all(|dialect| new(told, dialect));
        self.until("every dialect has refused a message", all).await
    }

    /// Forgets the refusals up to now, but for their number.
    pub fn forgive(&self) {
        self.table.tell(|told| told.silenced = told.refusals.clone());
    }

    /// Where the server is now; `None`: nobody shall look for it.
    pub fn doors(&self, doors: Option<Doors>) {
        self.table.doors.send_replace(doors);
    }

    /// Lets everybody end what is under way and hear the end, and compares the ledger with the log.
    pub async fn end(mut self) -> Attempt<Outcome> {
        self.table.phase.send_replace(Phase::Finish);
        let size = self.size;
        self.until("everything is acknowledged", |told| told.finished == size).await?;
        self.announce(END).await?;
        let gone =
            tokio::time::timeout(STEP, async { while self.at_work.join_next().await.is_some() {} }).await;
        if gone.is_err() {
            self.table.tell(|told| told.broken.push("somebody never heard the end".into()));
        }
        let Some(doors) = self.table.doors.borrow().clone() else { return Err("the server is away".into()) };
        let history = doors.history(&self.room).await?;
        let damage = doors.damage().await?;
        Ok(self.table.tell(|told| {
            let mut broken = std::mem::take(&mut told.broken);
            broken.extend(told.ledger.broken(&history));
            broken.extend(damage);
            Outcome {
                taken: told.ledger.count(),
                again: told.again,
                repeats: told.repeats,
                missed: told.ledger.missed(&history),
                refusals: std::mem::take(&mut told.refusals),
                broken,
            }
        }))
    }
}

impl Table {
    fn tell<T>(&self, what: impl FnOnce(&mut Told) -> T) -> T {
        let said = what(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.send_replace(());
        said
    }
}

/// One person's part.
struct Part {
    person: Person,
    table: Arc<Table>,
    /// The first number that was not used.
    next: u64,
    /// Numbers that are said and not acknowledged, oldest first.
    open: VecDeque<u64>,
    done: bool,
}

impl Part {
    async fn take(&mut self) {
        let mut away_since = clock::monotonic_ms();
        let mut again = false;
        loop {
            let why = match self.come(again).await {
                Ok(mut line) => {
                    let ended = self.talk(&mut line).await;
                    away_since = clock::monotonic_ms();
                    match ended {
                        Ok(()) => return,
                        Err(why) => why,
                    }
                }
                Err(why) => why,
            };
            again = true;
            if clock::monotonic_ms() > away_since + PATIENCE_MS {
                let told =
                    format!("{} ({}) does not come in: {why}", self.person.name, self.person.dialect());
                return self.table.tell(|all| all.broken.push(told));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn come(&mut self, again: bool) -> Attempt<Line> {
        let mut doors = self.table.doors.subscribe();
        let doors = doors.wait_for(Option::is_some).await?.clone().ok_or("the server is away")?;
        let tcp = TcpStream::connect(self.person.door(&doors)).await?;
        let (line, before) = self.person.come(&doors, tcp).await?;
        if !again {
            self.table.tell(|told| told.begun += 1);
        }
        for came in before {
            self.take_in(came);
        }
        Ok(line)
    }

    /// Talks until the end is heard. Fails when the connection ends.
    async fn talk(&mut self, line: &mut Line) -> Attempt<()> {
        let mut phase = self.table.phase.subscribe();
        let mut unsaid: VecDeque<u64> = self.open.clone();
        self.table.tell(|told| told.again += unsaid.len());
        // A MegaBot client asks behind its messages, and they are taken when that is answered.
        let (mut fenced, mut unfenced) = (false, false);
        let mut refused_at = 0;
        loop {
            let now = *phase.borrow_and_update();
            let late = clock::monotonic_ms() < refused_at + AGAIN.as_millis() as u64;
            if now == Phase::Talk && self.open.len() < self.table.pace.window && !late {
                unsaid.push_back(self.next);
                self.open.push_back(self.next);
                self.next += 1;
                if self.open.len() < self.table.pace.window {
                    continue;
                }
            }
            if (!unsaid.is_empty() || unfenced) && !fenced && !late {
                while let Some(number) = unsaid.pop_front() {
                    self.table.tell(|told| told.ledger.tried(&self.person.words(number)));
                    self.person.speak(line, number, &self.table.pace.filling).await?;
                }
                self.person.fence(line).await?;
                (fenced, unfenced) = (matches!(self.person.card, Card::MegaBot), false);
            }
            if now == Phase::Finish && self.open.is_empty() && !self.done {
                self.done = true;
                self.table.tell(|told| told.finished += 1);
            }
            let came = tokio::select! {
                heard = line.next() => self.person.make_of(&heard?),
                _ = phase.changed() => continue,
                () = tokio::time::sleep(AGAIN), if late => continue,
            };
            match &came {
                Came::Taken(ALL) => {
                    fenced = false;
                    let taken = std::mem::take(&mut self.open);
                    let (again, taken): (VecDeque<_>, VecDeque<_>) =
                        taken.into_iter().partition(|n| unsaid.contains(n));
                    self.open = again;
                    let words: Vec<String> = taken.iter().map(|number| self.person.words(*number)).collect();
                    self.table.tell(|told| words.iter().for_each(|word| told.ledger.taken(word)));
                }
                Came::Refused(Some(ALL), _) => {
                    (fenced, unfenced) = (false, true);
                    refused_at = clock::monotonic_ms();
                }
                Came::Refused(Some(number), _) if self.open.contains(number) => {
                    refused_at = clock::monotonic_ms();
                    unsaid.push_back(*number);
                }
                Came::Said(text) if text == END => {
                    self.take_in(came);
                    self.table.tell(|told| told.repeats += self.person.repeats);
                    return Ok(());
                }
                _ => {}
            }
            self.take_in(came);
        }
    }

    fn take_in(&mut self, came: Came) {
        match came {
            Came::Said(text) => self.table.tell(|told| {
                told.begun += usize::from(text == BEGINNING);
                told.ledger.heard(&self.person.name, &text);
            }),
            Came::Taken(number) if number != ALL => {
                self.open.retain(|open| *open != number);
                let words = self.person.words(number);
                self.table.tell(|told| told.ledger.taken(&words));
            }
            Came::Refused(_, words) => {
                let dialect = self.person.dialect();
                self.table.tell(|told| told.refusals.entry(dialect).or_insert((0, words)).0 += 1);
            }
            Came::Taken(_) | Came::Other => {}
        }
    }
}
