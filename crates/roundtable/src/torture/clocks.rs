//! A wall clock that is an hour ahead, set right, and years off: nothing stands still, nothing ends too early, nobody is
//! refused for it (log time).

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::child::{Doors, Server, Site};
use super::person::{Came, Person};
use super::{Report, Scale};
use crate::clock;
use crate::line::{Attempt, Line, request};

const ROOM: &str = "clockwork";
const HOUR_MS: i64 = 3_600_000;
/// How long something that is due at once may take.
const SOON_MS: u64 = 10_000;
/// Before 1970, which reads as 1970, and beyond the year 9999.
const FAR: [i64; 2] = [-9_000_000_000_000, 400_000_000_000_000];
/// What an MXF agent may say in a minute.
const MESSAGES: usize = 5;

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let settings = [
        "mxf.messages_per_minute=5",
        "aiwm.typing_timeout=1s",
        "figures.interval=500ms",
        "server.drain_timeout=1s",
    ];
    let mut site = Site::new(dir, &settings);
    site.set_clock(HOUR_MS)?;
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let mut cast = Cast::make(&server.doors).await?;
    cast.talk(&server.doors, "ahead").await?;
    // Secrets that were replaced by a clock that is ahead.
    for agent in ["ann", "bert"] {
        server.doors.admin(&format!("/agents/{agent}/secret"), json!({})).await?;
    }
    site.set_clock(0)?;
    set_right(&server, &mut cast, report).await?;
    // The stamps in the log are still ahead when it starts again.
    server.kill();
    server = site.start().await?;
    set_right(&server, &mut cast, report).await?;
    for wrong_by in FAR {
        site.set_clock(wrong_by)?;
        // The end of a token is a date: those from before are over, or not yet made.
        cast.tokens_are_good(&server.doors).await?;
        cast.talk(&server.doors, "far").await?;
        server.kill();
        server = site.start().await?;
        cast.talk(&server.doors, "far and started").await?;
    }
    site.set_clock(0)?;
    cast.talk(&server.doors, "right again").await?;
    starves(&server.doors, scale.pick(50, 400), report).await?;
    jumps_are_told(&server.doors).await?;
    guesses_are_blocked(&server.doors).await?;
    report.broken.extend(server.doors.damage().await?);
    report.broken.extend(site.faults());
    Ok(())
}

/// Everything that a clock stopped which was set right by an hour.
async fn set_right(server: &Server, cast: &mut Cast, report: &mut Report) -> Attempt<()> {
    let began = clock::monotonic_ms();
    cast.tokens_are_good(&server.doors).await?;
    cast.talk(&server.doors, "set right").await?;
    cast.types(&server.doors).await?;
    cast.limit_refills(&server.doors).await?;
    pause_ends(&server.doors, report, "a pause").await?;
    report.figure("all that a clock could stop, after it was set back", clock::monotonic_ms() - began, "ms");
    Ok(())
}

/// Who is in the room.
struct Cast {
    ann: Person,
    bert: Person,
    mxf: Person,
}

impl Cast {
    async fn make(doors: &Doors) -> Attempt<Self> {
        Ok(Self {
            ann: Person::aiwm(doors, "ann", ROOM).await?,
            bert: Person::aiwm(doors, "bert", ROOM).await?,
            mxf: Person::mxf(doors, "max", ROOM).await?,
        })
    }

    async fn come(person: &mut Person, doors: &Doors) -> Attempt<Line> {
        let tcp = TcpStream::connect(person.door(doors)).await?;
        Ok(person.come(doors, tcp).await?.0)
    }

    /// What one says reaches the other, and people see it stamped.
    async fn talk(&mut self, doors: &Doors, when: &str) -> Attempt<()> {
        let mut hearing = Self::come(&mut self.bert, doors).await?;
        let mut saying = Self::come(&mut self.ann, doors).await?;
        let number = clock::random_u64() >> 16;
        self.ann.speak(&mut saying, number, "").await?;
        let words = self.ann.words(number);
        wait(&mut hearing, when, |line, data| {
            (line == "message:new" && data.get("content").and_then(Value::as_str) == Some(&words))
                .then_some(())
        })
        .await?;
        doors.history(ROOM).await?;
        Ok(())
    }

    /// Tokens that are made after the clock was set back, when it was ahead at the rotation.
    async fn tokens_are_good(&mut self, doors: &Doors) -> Attempt<()> {
        for person in [&mut self.ann, &mut self.bert] {
            person.new_token(doors).await?;
            Self::come(person, doors).await.map_err(|error| format!("a fresh token: {error}"))?;
        }
        Ok(())
    }

    /// Typing arrives, and ends by itself.
    async fn types(&mut self, doors: &Doors) -> Attempt<()> {
        let mut seeing = Self::come(&mut self.bert, doors).await?;
        let mut typing = Self::come(&mut self.ann, doors).await?;
        typing.say("message:typing", &json!({"conversationId": ROOM, "isTyping": true})).await?;
        for expected in [true, false] {
            let what = if expected { "typing" } else { "the end of typing" };
            wait(&mut seeing, what, |name, data| {
                let told = data.get("isTyping").and_then(Value::as_bool);
                (name == "user:typing" && told == Some(expected)).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// What is used up flows back: the wait that a refusal names gets shorter as time passes.
    async fn limit_refills(&mut self, doors: &Doors) -> Attempt<()> {
        let mut line = Self::come(&mut self.mxf, doors).await?;
        let mut first = None;
        let began = clock::monotonic_ms();
        for _ in 0..SOON_MS {
            let number = clock::random_u64() >> 16;
            self.mxf.speak(&mut line, number, "").await?;
            let Came::Refused(_, words) = self.answer(&mut line, number).await? else { continue };
            let told: Value = serde_json::from_str(&words)?;
            let left = told.pointer("/details/retryAfterMs").and_then(Value::as_u64);
            let left = left.ok_or_else(|| format!("a refusal without a wait: {words}"))?;
            match first {
                None => first = Some(left),
                Some(first) if left + 500 <= first => return Ok(()),
                Some(_) if clock::monotonic_ms() > began + SOON_MS => break,
                Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(format!("the limit of {MESSAGES} messages does not refill").into())
    }

    async fn answer(&mut self, line: &mut Line, number: u64) -> Attempt<Came> {
        loop {
            let heard = line.next().await?;
            match self.mxf.make_of(&heard) {
                came @ (Came::Taken(of) | Came::Refused(Some(of), _)) if of == number => return Ok(came),
                _ => {}
            }
        }
    }
}

/// Passes over everything until something is found in an event's name and argument.
async fn wait<T>(
    line: &mut Line,
    what: &str,
    mut found: impl FnMut(&str, &Value) -> Option<T>,
) -> Attempt<T> {
    let listen = async {
        loop {
            let (name, data) = line.hear().await?;
            if let Some(found) = found(&name, &data) {
                return Ok(found);
            }
        }
    };
    let heard: Result<Attempt<T>, _> = tokio::time::timeout(Duration::from_millis(SOON_MS), listen).await;
    heard.unwrap_or_else(|_| Err(format!("{what}: nothing came in {SOON_MS} ms").into()))
}

/// An agent is held for a second, and goes on by itself.
async fn pause_ends(doors: &Doors, report: &mut Report, what: &str) -> Attempt<()> {
    hold(doors).await?;
    let began = clock::monotonic_ms();
    while held(doors).await? {
        if clock::monotonic_ms() > began + SOON_MS {
            report.broken.push(format!("{what} of a second is not over after {SOON_MS} ms"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn hold(doors: &Doors) -> Attempt<()> {
    let url = format!("http://{}/api/agents/max/pause", doors.agents);
    match request("POST", url, "", Some(json!({"duration_minutes": 0.017}))).await? {
        (200, _) => Ok(()),
        (status, answer) => Err(format!("no pause: {status} {answer}").into()),
    }
}

async fn held(doors: &Doors) -> Attempt<bool> {
    let (_, agent) = request("GET", format!("http://{}/api/agents/max", doors.agents), "", None).await?;
    Ok(agent.to_string().contains("\"paused\""))
}

/// What is due is done although somebody asks all the time.
async fn starves(doors: &Doors, questions: usize, report: &mut Report) -> Attempt<()> {
    hold(doors).await?;
    let began = clock::monotonic_ms();
    let mut over = None;
    for number in 0..questions {
        doors.say(ROOM, &format!("asks-{number}")).await?;
        if over.is_none() && !held(doors).await? {
            over = Some(clock::monotonic_ms() - began);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match over {
        Some(after) => report.figure("a pause of 1 s under steady questions", after, "ms"),
        None => report.broken.push("a pause does not end as long as somebody asks".into()),
    }
    Ok(())
}

/// Whoever runs the server learns that the clock was set.
async fn jumps_are_told(doors: &Doors) -> Attempt<()> {
    let began = clock::monotonic_ms();
    loop {
        let url = format!("http://{}/api/metrics/alerts", doors.agents);
        let (status, alerts) = request("GET", url, "", None).await?;
        if alerts.to_string().contains("\"clock\"") {
            return Ok(());
        }
        if clock::monotonic_ms() > began + SOON_MS {
            return Err(format!("no alert tells of the clock: {status} {alerts}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Seven wrong passwords are followed by a block.
async fn guesses_are_blocked(doors: &Doors) -> Attempt<()> {
    let url = format!("http://{}/api/auth/login", doors.people);
    for _ in 0..7 {
        let guess = json!({"username": "admin", "password": "guess"});
        request("POST", url.clone(), "", Some(guess)).await?;
    }
    let listed = format!("http://{}/admin/v1/blocks", doors.agents);
    let (_, blocks) = request("GET", listed, &doors.credentials.admin_token, None).await?;
    if blocks.pointer("/blocks/0").is_none() {
        return Err(format!("seven wrong passwords, and nobody is blocked: {blocks}").into());
    }
    Ok(())
}
