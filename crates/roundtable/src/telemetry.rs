//! What the server tells about itself: log lines without secrets, and figures of the process and its machine.

use std::io;
use std::sync::OnceLock;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::values::LogLevel;
use crate::config::{LogFormat, Logging};

mod descriptors;
pub mod figures;
pub mod recent;
pub mod recurring;
pub mod redact;
pub mod sparse;

/// Sends log lines to standard error from now on, and keeps the newest of them in [`recent`]. Every line passes
/// [`redact::redacted`], whoever wrote it. Fails when logging was set up before.
pub fn begin(settings: &Logging) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(settings.level.filter()?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Redacting(io::stderr))
        .with_ansi(false)
        .log_internal_errors(false);
    let kept = tracing_subscriber::registry().with(filter).with(recent::Keep);
    let done = match settings.format {
        LogFormat::Text => kept.with(lines).try_init(),
        LogFormat::Json => kept.with(lines.json().flatten_event(true)).try_init(),
    };
    done.map_err(|error| error.to_string())?;
    let _ = FILTER.set(handle);
    Ok(())
}

/// The process has one log, and so one filter of it.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs with another level from now on. Fails where logging was not [begun](begin), or when the level is none.
pub fn set_level(level: &LogLevel) -> Result<(), String> {
    let filter = level.filter()?;
    let Some(handle) = FILTER.get() else { return Err("nothing is logged".into()) };
    handle.reload(filter).map_err(|error| error.to_string())
}

/// A writer whose every write loses its secrets. `tracing` writes whole lines.
struct Redacting<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacting<M> {
    type Writer = RedactingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactingWriter(self.0.make_writer())
    }
}

struct RedactingWriter<W>(W);

impl<W: io::Write> io::Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        // A line that cannot be written is lost; whoever logs has better to do than to fail for it.
        let _ = self.0.write_all(redact::redacted(&line).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::Redacting;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_lose_their_secrets_whatever_the_format() {
        let kept = Kept::default();
        let writer = {
            let kept = kept.clone();
            Redacting(move || kept.clone())
        };
        let plain = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        tracing::subscriber::with_default(plain, || {
            tracing::info!(uri = "/ws?token=s3cret&platform=web", authorization = ?"Bearer s3cret", "opened");
        });
        let writer = {
            let kept = kept.clone();
            Redacting(move || kept.clone())
        };
        let json = tracing_subscriber::fmt().json().with_writer(writer).finish();
        tracing::subscriber::with_default(json, || {
            tracing::info!(api_key = "s3cret", uri = "/ws?api_key=s3cret", "opened");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("platform=web") && text.lines().count() == 2, "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn a_write_says_it_took_everything() {
        let kept = Kept::default();
        let writer = {
            let kept = kept.clone();
            Redacting(move || kept.clone())
        };
        assert_eq!(writer.make_writer().write(b"?token=abc\n").unwrap(), 11);
        assert_eq!(kept.0.lock().unwrap().as_slice(), b"?token=[hidden]\n");
    }
}
