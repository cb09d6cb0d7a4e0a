//! Starts the log: to stderr, text on a terminal and JSON otherwise, filtered as `log` says.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::config::{Config, LogFormat};

/// Sets the global subscriber. A second call changes nothing.
pub fn start(config: &Config) {
    let root = config.root();
    // The filter was checked with the configuration.
    let filter: Targets =
        root.log.replace(' ', "").parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let terminal = std::io::stderr().is_terminal();
    let text = match root.log_format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // It would complain on the same stream, and that panics where nobody reads it.
    let lines = lines.log_internal_errors(false);
    let lines = if text { lines.with_ansi(colour).boxed() } else { lines.json().flatten_event(true).boxed() };
    let _ = registry().with(lines.with_filter(filter)).try_init();
}
