//! Summaries of conversations: every tenth message has what was said summed up again, behind the back of whoever talks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::event::Event;
use roundtable_core::ids::{Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_dialects::aiwm::encode::{SUMMARISED, served_by, summary};
use roundtable_dialects::session::{Ask, Token};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::log::{Page, read_shown};
use crate::runner::{Audience, Committed, News, Workspaces};

/// After so many messages a conversation is summed up again.
const EVERY: u64 = 10;
/// Conversations that may wait for their summary; one that finds no place is summed up ten messages later.
const WAITING: usize = 1_024;

/// A conversation that is due.
type Due = (WorkspaceId, RoomId);

/// Passes batches on and notes which conversations are due.
pub struct Listener<A> {
    next: A,
    due: mpsc::Sender<Due>,
}

/// A listener before `next`, and what it finds.
pub fn listen<A: Audience>(next: A) -> (Listener<A>, mpsc::Receiver<Due>) {
    let (due, found) = mpsc::channel(WAITING);
    (Listener { next, due }, found)
}

impl<A: Audience> Audience for Listener<A> {
    fn committed(&self, batch: Arc<Committed>) {
        for room in due(&batch) {
            let _ = self.due.try_send((batch.workspace.clone(), room));
        }
        self.next.committed(batch);
    }
}

/// The conversations that took a tenth message in a batch.
fn due(batch: &Committed) -> Vec<RoomId> {
    let mut said = BTreeMap::<&RoomId, u64>::new();
    for news in &batch.news {
        if let News::Record(record, ..) = news
            && let (Event::MessagePosted(_), Some(room)) = (&record.event, &record.room)
        {
            *said.entry(room).or_default() += 1;
        }
    }
    let state = &batch.view.state;
    said.into_iter().filter(|(room, new)| is_due(state, room, *new)).map(|(room, _)| room.clone()).collect()
}

fn is_due(state: &State, room: &RoomId, new: u64) -> bool {
    let Some(room) = state.room(room) else { return false };
    let tens = |count: u64| count / EVERY;
    tens(room.messages) > tens(room.messages.saturating_sub(new)) && served_by(room).is_some()
}

/// Sums up what is due, one after the other, on the present runtime.
pub fn work(mut found: mpsc::Receiver<Due>, workspaces: Arc<Workspaces>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(first) = found.recv().await {
            let mut all = BTreeSet::from([first]);
            while let Ok(more) = found.try_recv() {
                all.insert(more);
            }
            for (workspace, room) in all {
                if let Err(error) = sum_up(&workspaces, &workspace, &room).await {
                    tracing::warn!(%error, %workspace, %room, "a conversation was not summed up");
                }
            }
        }
    })
}

async fn sum_up(workspaces: &Workspaces, workspace: &WorkspaceId, room: &RoomId) -> Result<(), Error> {
    let Some(handle) = workspaces.get(workspace) else { return Ok(()) };
    let (log, state) = (Arc::clone(workspaces.log()), Arc::clone(&handle.view().state));
    let (of, which) = (workspace.clone(), room.clone());
    let read = move || -> Result<Option<String>, Error> {
        let newest = read_shown(&*log, (&of, &state), &which, Page::of(None, SUMMARISED as usize))?;
        Ok(state.room(&which).map(|room| summary(room, &newest)))
    };
    let text = tokio::task::spawn_blocking(read).await.unwrap_or(Ok(None))?;
    if let Some(text) = text {
        handle.ask(&Principal::System, Ask::new(Token(0), Command::Summarise(room.clone(), text))).await?;
    }
    Ok(())
}
