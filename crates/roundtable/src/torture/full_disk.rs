//! A disk that takes no more while people talk: every dialect says so, nothing acknowledged is lost, reading goes on, and
//! writing too as soon as there is room (P1).

use std::path::Path;
use std::time::Duration;

use super::child::{Doors, Site};
use super::crowd::{Crowd, Pace};
use super::limits::limit_files;
use super::{Report, Scale, UNLIMITED, kill};
use crate::clock;
use crate::line::{Attempt, request};

const ROOM: &str = kill::ROOM;
/// How the dialects say it.
const WORDS: [(&str, &str); 3] = [
    ("AIWM", "Service unavailable"),
    ("MXF", r#""code":"INTERNAL_ERROR","details":{"retryAfterMs":"#),
    ("MegaBot", r#""error":"unavailable""#),
];

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let site = Site::new(dir, &UNLIMITED);
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let people = kill::people(&server.doors, scale.pick(1, 3)).await?;
    report.figure("people", people.len(), "");
    // Long messages fill the little room there is.
    let pace = Pace { window: 4, filling: format!(" {}", "x".repeat(2_000)) };
    let mut crowd = Crowd::gather(&server.doors, ROOM, people, pace).await?;
    let mut slowest = 0;
    let rounds = scale.pick(2, 6);
    for _ in 0..rounds {
        crowd.more(scale.pick(50, 200)).await?;
        crowd.forgive();
        // Below what the files have already: the next write fails, or one in the middle of a later transaction.
        limit_files(&server, Some(scale.draw(512 << 10)))?;
        crowd.refused(&WORDS.map(|(dialect, _)| dialect)).await?;
        read(&server.doors, report).await?;
        // A server that spins on the full disk, or ends, is found out here.
        tokio::time::sleep(Duration::from_millis(scale.pick(300, 2_000))).await;
        if let Some(how) = server.ended() {
            return Err(format!("the server ended on a full disk: {how}").into());
        }
        limit_files(&server, None)?;
        let free_since = clock::monotonic_ms();
        crowd.more(1).await?;
        slowest = slowest.max(clock::monotonic_ms() - free_since);
    }
    crowd.more(scale.pick(20, 200)).await?;
    // What was acknowledged beside the full disk is also there after a start.
    crowd.doors(None);
    server.kill();
    let server = site.start().await?;
    crowd.doors(Some(server.doors.clone()));
    let outcome = crowd.end().await?;
    report.figure("times full", rounds, "");
    report.figure("acknowledged messages", outcome.taken, "");
    report.figure("refused messages", outcome.refusals.values().map(|(count, _)| count).sum::<usize>(), "");
    report.figure("from room on the disk to the next acknowledgement, at most", slowest, "ms");
    for (dialect, sign) in WORDS {
        let words = outcome.refusals.get(dialect).map_or("", |(_, words)| words);
        if !words.contains(sign) {
            report.broken.push(format!("{dialect} is refused by a full disk in other words: {words}"));
        }
    }
    report.broken.extend(outcome.broken);
    report.broken.extend(site.faults());
    Ok(())
}

/// Who only reads is served as ever, and whoever watches the server is told.
async fn read(doors: &Doors, report: &mut Report) -> Attempt<()> {
    doors.history(ROOM).await?;
    for (path, wanted) in [("/livez", 200), ("/readyz", 503)] {
        let (status, body) = request("GET", format!("http://{}{path}", doors.agents), "", None).await?;
        if status != wanted {
            report.broken.push(format!("{path} answers {status} on a full disk, not {wanted}: {body}"));
        }
    }
    Ok(())
}
