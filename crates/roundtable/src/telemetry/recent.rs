//! The newest log lines, without secrets, for whoever asks a running server for them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use roundtable_dialects::rest::{LogLevel, LogLine};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::redact::redacted;
use crate::clock;

/// Lines that are kept.
const MOST_LINES: usize = 1_000;
/// Longest line that is kept, in characters.
const MOST_CHARS: usize = 2_000;

/// The process has one log, and so one memory of it.
static LINES: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());

/// The newest lines that are at least as bad as `least`, at most so many of them, oldest first.
pub fn lines(least: LogLevel, limit: usize) -> Vec<LogLine> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<LogLine> =
        lines.iter().rev().filter(|line| line.level >= least).take(limit).cloned().collect();
    found.reverse();
    found
}

/// Keeps what passes the log's filter.
pub(super) struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let whole = format!("{}{}", text.message, text.fields);
        let target = event.metadata().target();
        let line = LogLine {
            at: clock::now(),
            level: match *event.metadata().level() {
                Level::ERROR => LogLevel::Error,
                Level::WARN => LogLevel::Warning,
                Level::INFO => LogLevel::Info,
                Level::DEBUG | Level::TRACE => LogLevel::Debug,
            },
            component: target.strip_prefix("roundtable::").unwrap_or(target).to_owned(),
            message: redacted(&whole).chars().take(MOST_CHARS).collect(),
        };
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// A record as one line: what it says, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a text cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use roundtable_dialects::rest::LogLevel;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{Keep, MOST_LINES, lines};

    #[test]
    fn the_newest_lines_are_kept_without_secrets() {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Keep), || {
            tracing::info!(target: "recent", uri = "/ws?token=s3cret", "opened");
            tracing::warn!(target: "recent", "Bearer s3cret is no credential");
            tracing::debug!(target: "recent", "whatever");
            for n in 0..MOST_LINES {
                tracing::error!(target: "recent", n, "many");
            }
            tracing::info!(target: "recent", api_key = "key_1:s3cret", "after all");
            tracing::warn!(target: "recent", "the last");
        });
        let own = |least, limit| -> Vec<String> {
            let own = lines(least, limit).into_iter().filter(|line| line.component == "recent");
            own.map(|line| line.message).collect()
        };
        let all = own(LogLevel::Debug, MOST_LINES);
        assert!(all.len() <= MOST_LINES && !all.iter().any(|line| line.contains("s3cret")), "{all:?}");
        assert_eq!(own(LogLevel::Warning, 2).last().map(String::as_str), Some("the last"));
        assert!(all.contains(&"many n=999".to_owned()));
    }
}
