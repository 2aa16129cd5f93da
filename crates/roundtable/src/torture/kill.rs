//! `kill -9` again and again while people talk: what was acknowledged is there once, in one order for all (P1, P2, P3, P4).

use std::path::Path;
use std::time::Duration;

use super::child::Site;
use super::crowd::{Crowd, Pace};
use super::person::Person;
use super::{Report, Scale, UNLIMITED};
use crate::clock;
use crate::line::Attempt;

/// Where all meet.
pub const ROOM: &str = "table";

/// People of each dialect: MXF, AIWM, MegaBot.
pub async fn people(doors: &super::child::Doors, each: usize) -> Attempt<Vec<Person>> {
    let mut people = Vec::new();
    for number in 1..=each {
        people.push(Person::mxf(doors, &format!("mxf{number}"), ROOM).await?);
        people.push(Person::aiwm(doors, &format!("aiwm{number}"), ROOM).await?);
        people.push(Person::megabot(&format!("mega{number}"), ROOM));
    }
    Ok(people)
}

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let site = Site::new(dir, &UNLIMITED);
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let people = people(&server.doors, scale.pick(2, 4)).await?;
    report.figure("people", people.len(), "");
    let pace = Pace { window: 8, filling: String::new() };
    let mut crowd = Crowd::gather(&server.doors, ROOM, people, pace).await?;
    let (rounds, mut slowest) = (scale.pick(3, 12), 0);
    for _ in 0..rounds {
        crowd.more(scale.pick(150, 500)).await?;
        // Anywhere within a batch, a sync or a delivery.
        tokio::time::sleep(Duration::from_micros(scale.draw(200_000))).await;
        crowd.doors(None);
        server.kill();
        let away_since = clock::monotonic_ms();
        server = site.start().await?;
        crowd.doors(Some(server.doors.clone()));
        crowd.more(1).await?;
        slowest = slowest.max(clock::monotonic_ms() - away_since);
    }
    crowd.more(1).await?;
    let outcome = crowd.end().await?;
    report.figure("kills", rounds, "");
    report.figure("acknowledged messages", outcome.taken, "");
    report.figure("sent again under the same client id", outcome.again, "");
    report.figure("frames that came twice under one id", outcome.repeats, "");
    report.figure("not heard by clients without a cursor", outcome.missed, "");
    report.figure("from kill to the next acknowledgement, at most", slowest, "ms");
    let refused = |(dialect, (count, words)): (_, &(usize, String))| {
        format!("{dialect} refused {count} messages: {words}")
    };
    report.broken.extend(outcome.refusals.iter().map(refused));
    report.broken.extend(outcome.broken);
    report.broken.extend(site.faults());
    Ok(())
}
