//! The two ends of a runner's life: what it writes before anything else, and the snapshots that make the next start short.

use std::sync::Arc;

use roundtable_core::cluster::SERVER;
use roundtable_core::command::Command;
use roundtable_core::ids::Principal;
use roundtable_dialects::session::{Ask, Token};
use tokio::sync::oneshot;

use super::batch::Question;
use super::{ReplyTo, Runner, SNAPSHOT_RECORDS, millis};
use crate::clock;

impl Runner {
    /// What begins the log of this process comes before everything else, until it is written.
    pub(super) fn opened(&mut self, questions: Vec<Question<ReplyTo>>) -> Vec<Question<ReplyTo>> {
        let first = std::mem::take(&mut self.opening).into_iter().map(|command| Question {
            by: Principal::System,
            connection: None,
            ask: Ask::new(Token(0), command),
            reply: ReplyTo::Nobody,
        });
        first.chain(questions).collect()
    }

    /// Keeps a snapshot now and then, so that the next start reads little. Not needed for being right.
    pub(super) fn snapshot(&mut self) {
        let (head, at) = self.snapshot;
        let (records, now) = (self.state.head.0 - head.0, clock::monotonic_ms());
        if records >= SNAPSHOT_RECORDS || now >= at + millis(self.pace.snapshot) {
            self.keeping().map(tokio::task::spawn_blocking);
        }
    }

    /// The same at the end. A large state takes long to be written: then the next start reads more of the log instead.
    pub(super) async fn last_snapshot(&mut self) {
        let Some(keep) = self.keeping() else { return };
        let (kept, done) = oneshot::channel();
        // A thread of its own, which nothing waits for when the process ends.
        let keep = move || {
            keep();
            let _ = kept.send(());
        };
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(keep);
        if thread.is_err() || tokio::time::timeout(self.pace.last_snapshot, done).await.is_err() {
            tracing::info!(workspace = %self.workspace, "no snapshot at the end: it would have taken too long");
        }
    }

    /// What keeps a snapshot of the present state; `None` if it is kept, or if the log does not hold it yet.
    fn keeping(&mut self) -> Option<impl FnOnce() + Send + use<>> {
        if self.state.head == self.snapshot.0 || !self.unsynced.is_empty() {
            return None;
        }
        self.snapshot = (self.state.head, clock::monotonic_ms());
        let (log, workspace, state) = (Arc::clone(&self.log), self.workspace.clone(), self.state.clone());
        Some(move || {
            if let Err(error) = log.snapshot(&workspace, &state) {
                tracing::warn!(%workspace, %error, "no snapshot could be kept; the next start reads more of the log");
            }
        })
    }
}

/// What a process says first to a log: that it began, and that it is part of the network.
pub(super) fn opening(questions: &[Question<ReplyTo>]) -> Vec<Command> {
    let by_server = questions.iter().filter(|question| question.by == Principal::System);
    let opens = |command: &Command| match command {
        Command::StartServer(_) => true,
        Command::JoinNetwork(node) => node.kind == SERVER,
        _ => false,
    };
    by_server.map(|question| question.ask.command.clone()).filter(opens).collect()
}
