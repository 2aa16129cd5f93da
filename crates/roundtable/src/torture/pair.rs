//! Two bystanders in the attacked room: they answer one another all the time, and how long that takes is the measure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::Report;
use super::child::Doors;
use super::person::{Came, Person};
use crate::clock;
use crate::line::{Attempt, Line};

/// The longest that a word and its answer may take, on a machine that does other things too.
const SLOWEST_MS: u64 = 10_000;
/// A pause between two exchanges.
const BREATH: Duration = Duration::from_millis(20);

/// Two bystanders at work.
pub struct Pair {
    over: Arc<AtomicBool>,
    talking: JoinHandle<Attempt<Vec<u64>>>,
}

impl Pair {
    /// An MXF agent and a MegaBot guest come into a room that is there, and begin.
    pub async fn begin(doors: &Doors, room: &str) -> Attempt<Self> {
        Self::of([Person::mxf(doors, "calm", room).await?, Person::megabot("quiet", room)], doors).await
    }

    /// Two people come in, and begin.
    pub async fn of(people: [Person; 2], doors: &Doors) -> Attempt<Self> {
        let mut pair = Vec::new();
        for mut person in people {
            let tcp = TcpStream::connect(person.door(doors)).await?;
            let line = person.come(doors, tcp).await?.0;
            pair.push((person, line));
        }
        let over = Arc::new(AtomicBool::new(false));
        let talking = tokio::spawn(talk(pair, Arc::clone(&over)));
        Ok(Self { over, talking })
    }

    /// Lets them end. How long each word and its answer took, in milliseconds, the shortest first.
    pub async fn delays(self) -> Attempt<Vec<u64>> {
        self.over.store(true, Ordering::Relaxed);
        let patience = Duration::from_millis(2 * SLOWEST_MS);
        let talked = tokio::time::timeout(patience, self.talking).await;
        let mut delays = talked.map_err(|_| "the bystanders hear one another no more")???;
        delays.sort_unstable();
        Ok(delays)
    }

    /// Lets them end, and tells how they fared.
    pub async fn end(self, report: &mut Report) -> Attempt<()> {
        let delays = self.delays().await?;
        let at = |part: usize| {
            delays.get(delays.len().saturating_sub(1) * part / 100).copied().unwrap_or_default()
        };
        report.figure("exchanges of bystanders", delays.len(), "");
        report.figure("word and answer, half of them within", at(50), "ms");
        report.figure("word and answer, 99 % within", at(99), "ms");
        report.figure("word and answer, all within", at(100), "ms");
        if delays.is_empty() || at(100) > SLOWEST_MS {
            report.broken.push(format!("bystanders waited {} ms for one another", at(100)));
        }
        Ok(())
    }
}

async fn talk(mut pair: Vec<(Person, Line)>, over: Arc<AtomicBool>) -> Attempt<Vec<u64>> {
    let mut delays = Vec::new();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let began = clock::monotonic_ms();
        for _ in 0..2 {
            let [(speaker, from), (listener, to)] = pair.as_mut_slice() else {
                return Err("one is missing".into());
            };
            speaker.speak(from, number, "").await?;
            let words = speaker.words(number);
            // Both read, or the one that only speaks would be a stalled reader.
            loop {
                let came = tokio::select! {
                    heard = to.next() => listener.make_of(&heard?),
                    heard = from.next() => match speaker.make_of(&heard?) {
                        Came::Refused(_, why) => return Err(format!("a bystander was refused: {why}").into()),
                        _ => continue,
                    },
                };
                if came == Came::Said(words.clone()) {
                    break;
                }
            }
            pair.reverse();
        }
        delays.push(clock::monotonic_ms() - began);
        tokio::time::sleep(BREATH).await;
    }
    Ok(delays)
}
