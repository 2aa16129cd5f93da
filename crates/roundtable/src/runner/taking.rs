//! Whether the log takes what it is given, counted and told in the process's own log.

use super::Runner;
use crate::log::AppendError;
use crate::telemetry::recurring::Told;

/// A sync that takes longer, in microseconds, is worth a line in the process's own log.
const NOTABLE_SYNC_US: u64 = 250_000;

impl Runner {
    /// The log has taken records.
    pub(super) fn took(&mut self, records: usize, us: u64) {
        self.counters.took(us);
        if let Some(refused) = self.trouble.over() {
            tracing::info!(workspace = %self.workspace, refused, "the log takes records again");
        }
        if us > NOTABLE_SYNC_US {
            tracing::info!(workspace = %self.workspace, records, ms = us / 1_000, "a batch was slow");
        }
    }

    /// The log has refused records.
    pub(super) fn refused_append(&mut self, error: &AppendError) {
        self.counters.refused_append(error.to_string());
        let workspace = &self.workspace;
        match self.trouble.came() {
            Told::First => tracing::error!(%workspace, %error, "the log takes nothing"),
            Told::Again(refused) => {
                tracing::error!(%workspace, %error, refused, "the log still takes nothing")
            }
            Told::Nothing => {}
        }
    }
}
