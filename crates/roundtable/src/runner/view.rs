//! A workspace as it stood after a batch, for whoever looks at it.

use std::sync::Arc;

use imbl::Vector;
use roundtable_core::event::Record;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::session::Scene;

use super::log_time::LogTime;
use crate::clock;
use crate::log::Epochs;

/// A workspace as it stood after a batch.
#[derive(Clone, Debug)]
pub struct View {
    /// Its state.
    pub state: Arc<State>,
    /// The epochs of its log.
    pub epochs: Arc<Epochs>,
    pub(super) log_time: LogTime,
    pub(super) unsynced: Vector<Arc<Record>>,
}

impl View {
    /// The present in the workspace's log time.
    pub fn now(&self) -> Time {
        self.log_time.now(clock::monotonic_ms())
    }

    /// What a session may look at, now.
    pub fn scene<'a>(&'a self, figures: &'a Figures) -> Scene<'a> {
        let (now, at, epoch) = (self.now(), clock::now(), self.epochs.current());
        Scene { now, at, state: &self.state, epoch, figures }
    }

    /// What was handed out and is not in the log yet, oldest first: messages of relaxed rooms. Whoever reads the log adds
    /// these, so that nothing is missing between what is read and what comes live.
    pub fn unsynced(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.unsynced.iter().map(|record| &**record)
    }
}
