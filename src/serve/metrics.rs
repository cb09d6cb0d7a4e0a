//! `/metrics`: the snapshot in the text of Prometheus 0.0.4, or as OpenMetrics 1.0 to who asks for it.
//!
//! Every name is fixed by the contract. Labels are bounded in length ([`label`]) and number: keys,
//! names of channels and sources, words; never an address, an error or an id. A family is one block.

use std::fmt::Write as _;

use super::label;
use super::snapshot::{Recovery, Snapshot};
use crate::core::recovery::target::Phase;
use crate::core::signal::State;
use crate::core::time::Now;

/// How the page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type`; scrapers refuse a page without the right one.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What the `Accept` header prefers; text when it says nothing.
    pub fn accepted(accept: &str) -> Format {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for wanted in accept.split(',') {
            let mut parts = wanted.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0_f32, None);
            for part in parts {
                match part.split_once('=') {
                    Some(("q", q)) => weight = q.trim().parse().unwrap_or(0.0),
                    Some(("version", v)) => version = Some(v.trim()),
                    _ => {}
                }
            }
            match (kind.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(weight),
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }
}

/// What is measured of our own process when the page is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Resident memory in bytes; `None` where it cannot be read.
    pub resident: Option<u64>,
}

/// The whole page.
pub fn render(snapshot: &Snapshot, now: Now, process: Process, format: Format) -> String {
    let mut page = Page::new(format, 4_096 + snapshot.signals.len() * 400);
    about(&mut page, snapshot, process);
    loop_of(&mut page, snapshot);
    signals(&mut page, snapshot);
    deliveries(&mut page, snapshot, now);
    sources(&mut page, snapshot);
    if let Some(recovery) = &snapshot.counters.recovery {
        targets(&mut page, snapshot);
        repairs(&mut page, recovery);
    }
    page.finish()
}

fn about(page: &mut Page, snapshot: &Snapshot, process: Process) {
    build(page, &snapshot.version);
    page.family("watchdog_enabled", Kind::Gauge, "0 when switched off by configuration.");
    page.sample("watchdog_enabled", "", &[], f64::from(u8::from(snapshot.enabled)));
    page.family("process_start_time_seconds", Kind::Gauge, "When the process started.");
    page.sample("process_start_time_seconds", "", &[], seconds(snapshot.started_at.0 as f64));
    if let Some(resident) = process.resident {
        page.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process in bytes.");
        page.sample("process_resident_memory_bytes", "", &[], resident as f64);
    }
}

/// The version, as every page of ours begins.
pub fn build(page: &mut Page, version: &str) {
    page.family("watchdog_build", Kind::Info, "The version that runs.");
    page.sample("watchdog_build", "_info", &[("version", version)], 1.0);
}

fn loop_of(page: &mut Page, snapshot: &Snapshot) {
    let tick = &snapshot.tick;
    page.family("watchdog_ticks", Kind::Counter, "Passes finished.");
    page.sample("watchdog_ticks", "_total", &[], tick.count as f64);
    page.family("watchdog_tick_duration_seconds", Kind::Gauge, "Time of the last pass.");
    page.sample("watchdog_tick_duration_seconds", "", &[], seconds(tick.duration_ms));
    page.family("watchdog_tick_lateness_seconds", Kind::Gauge, "How late the last pass began.");
    page.sample("watchdog_tick_lateness_seconds", "", &[], seconds(tick.lateness_ms));
    page.family(
        "watchdog_last_tick_timestamp_seconds",
        Kind::Gauge,
        "When the last pass finished; 0 before the first.",
    );
    page.sample("watchdog_last_tick_timestamp_seconds", "", &[], seconds(tick.last_at.map_or(0.0, |at| at.0 as f64)));
}

fn signals(page: &mut Page, snapshot: &Snapshot) {
    const STATES: [State; 4] = [State::Ok, State::Pending, State::Firing, State::Unknown];
    page.family("watchdog_signal_state", Kind::Gauge, "1 for the state that the signal is in, 0 for the others.");
    for signal in &snapshot.signals {
        for state in STATES {
            let labels =
                [("key", signal.key.as_str()), ("severity", signal.severity.as_str()), ("state", state.as_str())];
            page.sample("watchdog_signal_state", "", &labels, f64::from(u8::from(state == signal.state)));
        }
    }
    page.family(
        "watchdog_signal_silenced",
        Kind::Gauge,
        "1 for each signal of which no alerts are sent now, by a silence or a maintenance window.",
    );
    for signal in snapshot.signals.iter().filter(|signal| signal.silenced.is_some()) {
        page.sample("watchdog_signal_silenced", "", &[("key", signal.key.as_str())], 1.0);
    }
    page.family("watchdog_silences_active", Kind::Gauge, "Silences in force and maintenance windows that are open.");
    let active = snapshot.silences.iter().filter(|silence| silence.active).count();
    page.sample("watchdog_silences_active", "", &[], active as f64);
    page.family("watchdog_decisions", Kind::Counter, "Decisions on signals, by what was decided.");
    for (action, count) in &snapshot.counters.decisions {
        page.sample("watchdog_decisions", "_total", &[("action", action)], *count as f64);
    }
}

fn deliveries(page: &mut Page, snapshot: &Snapshot, now: Now) {
    page.family("watchdog_notifications", Kind::Counter, "Attempts to deliver a message, by result.");
    for ((channel, result), count) in &snapshot.counters.notifications {
        page.sample("watchdog_notifications", "_total", &[("channel", channel), ("result", result)], *count as f64);
    }
    page.family("watchdog_outbox_pending", Kind::Gauge, "Messages decided and not yet acknowledged.");
    for channel in &snapshot.channels {
        page.sample("watchdog_outbox_pending", "", &[("channel", &channel.name)], channel.pending as f64);
    }
    page.family(
        "watchdog_outbox_oldest_seconds",
        Kind::Gauge,
        "Age of the oldest message not yet acknowledged; 0 without one.",
    );
    for channel in &snapshot.channels {
        let age = if channel.pending == 0 { 0.0 } else { snapshot.age(now).as_secs() as f64 };
        page.sample(
            "watchdog_outbox_oldest_seconds",
            "",
            &[("channel", &channel.name)],
            channel.oldest_pending_s as f64 + age,
        );
    }
}

fn sources(page: &mut Page, snapshot: &Snapshot) {
    page.family("watchdog_source_up", Kind::Gauge, "1 while the source can be read.");
    for source in &snapshot.sources {
        page.sample("watchdog_source_up", "", &[("source", &source.name)], f64::from(u8::from(source.state == "ok")));
    }
    page.family("watchdog_source_duration_seconds", Kind::Gauge, "Duration of the source's last reading.");
    for source in &snapshot.sources {
        page.sample("watchdog_source_duration_seconds", "", &[("source", &source.name)], seconds(source.duration_ms));
    }
}

fn targets(page: &mut Page, snapshot: &Snapshot) {
    page.family("watchdog_target_phase", Kind::Gauge, "1 for the phase that the target is in, 0 for the others.");
    for target in &snapshot.targets {
        for phase in Phase::ALL.map(Phase::as_str) {
            let labels = [("target", target.name.as_str()), ("phase", phase)];
            page.sample("watchdog_target_phase", "", &labels, f64::from(u8::from(phase == target.phase)));
        }
    }
    page.family(
        "watchdog_target_simulated",
        Kind::Gauge,
        "1 while what is shown of the target's repair is only simulated, 0 otherwise.",
    );
    for target in &snapshot.targets {
        let simulated = f64::from(u8::from(target.simulated));
        page.sample("watchdog_target_simulated", "", &[("target", &target.name)], simulated);
    }
    page.family(
        "watchdog_target_unhealthy_seconds",
        Kind::Gauge,
        "How long the target has been ill; 0 while it is not.",
    );
    for target in &snapshot.targets {
        page.sample("watchdog_target_unhealthy_seconds", "", &[("target", &target.name)], target.unhealthy_s as f64);
    }
}

fn repairs(page: &mut Page, recovery: &Recovery) {
    page.family(
        "watchdog_recovery_actions",
        Kind::Counter,
        "Requests that switch a machine; in observe they are simulated.",
    );
    for ((target, action, mode), count) in &recovery.actions {
        let labels = [("target", target.as_str()), ("action", action), ("mode", mode)];
        page.sample("watchdog_recovery_actions", "_total", &labels, *count as f64);
    }
    page.family(
        "watchdog_recovery_failures",
        Kind::Counter,
        "Requests that were not taken, or whose outcome is not known.",
    );
    for ((target, action), count) in &recovery.failures {
        page.sample("watchdog_recovery_failures", "_total", &[("target", target), ("action", action)], *count as f64);
    }
    page.family(
        "watchdog_recovery_blocked",
        Kind::Counter,
        "How often a reason began to keep a due repair from beginning.",
    );
    for (reason, count) in &recovery.blocked {
        page.sample("watchdog_recovery_blocked", "_total", &[("reason", reason)], *count as f64);
    }
    page.family("watchdog_nodes", Kind::Gauge, "Configured nodes by state.");
    for (state, count) in &recovery.nodes {
        page.sample("watchdog_nodes", "", &[("state", state)], *count as f64);
    }
    page.family("watchdog_consul_connected", Kind::Gauge, "1 while the heartbeats can be read.");
    page.sample("watchdog_consul_connected", "", &[], f64::from(u8::from(recovery.consul_connected)));
    if let Some(connected) = recovery.oci_connected {
        page.family("watchdog_oci_connected", Kind::Gauge, "1 when Oracle's API answered the last time it was asked.");
        page.sample("watchdog_oci_connected", "", &[], f64::from(u8::from(connected)));
    }
    if !recovery.spans.is_empty() {
        page.family("watchdog_spans", Kind::Counter, "Spans of repairs, by what became of them.");
        for (result, count) in &recovery.spans {
            page.sample("watchdog_spans", "_total", &[("result", result)], *count as f64);
        }
    }
}

fn seconds(millis: f64) -> f64 {
    millis / 1_000.0
}

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Labels on a constant 1; samples end in `_info`.
    Info,
}

/// A page being written.
#[derive(Debug)]
pub struct Page {
    out: String,
    format: Format,
}

impl Page {
    /// An empty page with room for `capacity` bytes.
    pub fn new(format: Format, capacity: usize) -> Page {
        Page { out: String::with_capacity(capacity), format }
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// Opens a family. `name` is without the suffix of its samples: OpenMetrics names the family so,
    /// the older text by the name of its samples.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (suffix, word) = match (self.format, kind) {
            (Format::Text, Kind::Counter) => ("_total", "counter"),
            (Format::Text, Kind::Info) => ("_info", "gauge"),
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            (_, Kind::Gauge) => ("", "gauge"),
        };
        // Writing into a String cannot fail; help texts are our own and hold nothing to escape.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {word}");
    }

    /// One sample of the family opened last: its name, suffix, labels and value.
    pub fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.out, "{name}{suffix}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            label::write(&mut self.out, text);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = match value {
            v if v.is_nan() => writeln!(self.out, " NaN"),
            v if v.is_infinite() => writeln!(self.out, " {}Inf", if v > 0.0 { '+' } else { '-' }),
            v => writeln!(self.out, " {v}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::sample::sample;

    #[test]
    fn both_formats_are_written_as_agreed() {
        let (snapshot, now) = sample();
        let process = Process { resident: Some(5_242_880) };
        for (format, golden) in [
            (Format::Text, include_str!("golden/metrics.txt")),
            (Format::OpenMetrics, include_str!("golden/metrics.openmetrics.txt")),
        ] {
            let page = render(&snapshot, now, process, format);
            for (line, (written, agreed)) in page.lines().zip(golden.lines()).enumerate() {
                assert_eq!(written, agreed, "line {} of {format:?}", line + 1);
            }
            assert_eq!(page, golden, "{format:?}");
        }
    }

    #[test]
    fn accept_is_read_as_scrapers_write_it() {
        let table = [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0,text/plain", Format::Text),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=high", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
        ];
        for (accept, format) in table {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_written_as_the_format_wants() {
        let mut page = Page { out: String::new(), format: Format::Text };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e21, 0.1] {
            page.sample("x", "", &[], value);
        }
        assert_eq!(page.out, "x NaN\nx +Inf\nx -Inf\nx 1000000000000000000000\nx 0.1\n");
    }
}
