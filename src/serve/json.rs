//! The JSON API: `/api/v1/status` and `/api/v1/history`, in the names of the contract.
//!
//! Writes what the snapshot says and works out only ages. Field names are fixed: other programs read them.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::muted::MuteView;
use super::pieces::Pieces;
use super::snapshot::{
    ChannelView, HistoryView, RECENT, SignalView, Snapshot, SourceView, StateFile, TargetView, Tick,
};
use crate::config::value::Span;
use crate::core::edge::Incident;
use crate::core::time::Now;

/// The body of `/api/v1/status`.
pub fn status(snapshot: &Snapshot, now: Now) -> Pieces {
    let age_ms = u64::try_from(snapshot.age(now).as_millis()).unwrap_or(u64::MAX);
    let status = Status {
        instance: &snapshot.instance,
        version: &snapshot.version,
        enabled: snapshot.enabled,
        mode: &snapshot.mode,
        started_at: snapshot.started_at.rfc3339(),
        interval_ms: snapshot.interval_ms,
        state_file: &snapshot.state_file,
        tick: Tick { age_ms: if snapshot.tick.count == 0 { 0 } else { age_ms }, ..snapshot.tick },
        signals: &snapshot.signals,
        targets: &snapshot.targets,
        channels: &snapshot.channels,
        sources: &snapshot.sources,
        silences: &snapshot.silences,
    };
    written(&status)
}

/// The body of `/api/v1/history` for this query string; an error says what is wrong with it.
pub fn history(snapshot: &Snapshot, now: Now, query: &str) -> Result<Pieces, String> {
    let wanted = Wanted::parse(query)?;
    let mut within = snapshot
        .recent
        .iter()
        .take_while(|entry| snapshot.ago(entry.at, now) <= wanted.since)
        .filter(|entry| wanted.subject.as_ref().is_none_or(|subject| *subject == entry.subject))
        .filter(|entry| wanted.incident.is_none() || wanted.incident == entry.incident);
    let entries: Vec<&HistoryView> = within.by_ref().take(wanted.limit).collect();
    let cut = within.next().is_some();
    // A full store of recent entries whose oldest is still wanted has forgotten some that are, too.
    let forgot = snapshot.recent.len() >= RECENT
        && snapshot.recent.last().is_some_and(|oldest| snapshot.ago(oldest.at, now) <= wanted.since);
    Ok(written(&History { complete: !cut && !forgot, entries }))
}

#[derive(Serialize)]
struct Status<'a> {
    instance: &'a str,
    version: &'a str,
    enabled: bool,
    mode: &'a str,
    started_at: String,
    interval_ms: u64,
    state_file: &'a StateFile,
    tick: Tick,
    signals: &'a [Arc<SignalView>],
    targets: &'a [Arc<TargetView>],
    channels: &'a [ChannelView],
    sources: &'a [SourceView],
    silences: &'a [MuteView],
}

#[derive(Serialize)]
struct History<'a> {
    /// True when every entry that was asked for is there.
    complete: bool,
    /// Newest first.
    entries: Vec<&'a HistoryView>,
}

struct Wanted {
    since: Duration,
    subject: Option<String>,
    incident: Option<Incident>,
    limit: usize,
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted { since: Duration::from_hours(24), subject: None, incident: None, limit: RECENT };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| "the query is not valid percent-encoded UTF-8".to_string())?;
            match name {
                "since" => {
                    wanted.since = Span::parse(&value).map_err(|_| "since: write for example 24h".to_string())?.0;
                }
                "subject" if value.is_empty() => wanted.subject = None,
                "subject" => wanted.subject = Some(value),
                "incident" => {
                    let name = value.strip_prefix('#').unwrap_or(&value);
                    wanted.incident = (!name.is_empty()).then(|| Incident(name.to_string()));
                }
                "limit" => {
                    wanted.limit = match value.parse::<usize>() {
                        Ok(limit) if limit > 0 => limit.min(RECENT),
                        _ => return Err(format!("limit: write a whole number from 1 to {RECENT}")),
                    };
                }
                _ => return Err("unknown parameter; there are since, subject, incident and limit".to_string()),
            }
        }
        Ok(wanted)
    }
}

/// Undoes percent-encoding as forms and browsers do it in a query, where a plus is a space.
fn decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

/// Undoes percent-encoding; `None` for what is none, or no text.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn written<T: Serialize>(value: &T) -> Pieces {
    let mut text = Pieces::default();
    // Plain structs with text keys: nothing in them that JSON could not write, and memory takes every byte.
    let whole = serde_json::to_writer(&mut text, value).is_ok() && text.write_all(b"\n").is_ok();
    if whole { text } else { "{}\n".to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::{Mono, Wall};
    use crate::serve::sample::sample;

    #[test]
    fn the_names_are_those_of_the_contract() {
        let (snapshot, now) = sample();
        let value: serde_json::Value = serde_json::from_str(&status(&snapshot, now).to_string()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&value),
            "channels enabled instance interval_ms mode signals silences sources started_at state_file targets tick version"
        );
        assert_eq!(keys(&value["tick"]), "age_ms count duration_ms last_at lateness_ms");
        assert_eq!(
            keys(&value["signals"][0]),
            "detail incident key last_alert_at reason severity silenced since state title"
        );
        assert_eq!(keys(&value["silences"][0]), "active by match reason since until");
        assert_eq!(keys(&value["signals"][2]["silenced"]), "by pattern reason until");
        assert_eq!(value["signals"][2]["silenced"]["until"], "2026-01-01T07:30:00Z");
        assert_eq!(
            (&value["silences"][1]["by"], &value["silences"][1]["active"]),
            (&"maintenance".into(), &false.into())
        );
        assert_eq!(keys(&value["targets"][0]), "attempts blocked name phase reason simulated since");
        assert_eq!(keys(&value["channels"][0]), "error name oldest_pending_s pending state");
        assert_eq!(keys(&value["sources"][0]), "duration_ms error last_ok_at name note state");
        assert_eq!(value["signals"][0]["incident"], "#k3f9");
        assert_eq!(value["signals"][0]["state"], "firing");
        assert_eq!(value["signals"][0]["severity"], "critical");
        assert_eq!(value["signals"][0]["since"], "2026-01-01T02:02:00Z");
        assert_eq!(value["started_at"], "2026-01-01T00:00:00Z");
        assert_eq!(value["tick"]["age_ms"], 3_000);
        assert_eq!(value["sources"][0]["error"], serde_json::Value::Null);
        assert_eq!(value["state_file"], "ok");
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let (snapshot, now) = sample();
        let back: Snapshot = serde_json::from_str(&status(&snapshot, now).to_string()).unwrap();
        assert_eq!(back.tick.age_ms, 3_000);
        let seen = |s: &Snapshot| {
            s.signals.iter().map(|v| (v.key.clone(), v.state, v.since, v.incident.clone())).collect::<Vec<_>>()
        };
        assert_eq!(seen(&back), seen(&snapshot));
        assert_eq!(back.channels, snapshot.channels);
        assert_eq!(back.sources, snapshot.sources);
        assert_eq!(back.silences, snapshot.silences);
        let known = |s: &Snapshot| s.targets.iter().map(|t| (t.name.clone(), t.reason.clone())).collect::<Vec<_>>();
        assert_eq!(known(&back), known(&snapshot));
        assert_eq!(back.started_at, snapshot.started_at);
    }

    fn entries(snapshot: &Snapshot, now: Now, query: &str) -> (usize, bool) {
        let value: serde_json::Value =
            serde_json::from_str(&history(snapshot, now, query).unwrap().to_string()).unwrap();
        (value["entries"].as_array().unwrap().len(), value["complete"].as_bool().unwrap())
    }

    #[test]
    fn history_is_filtered_by_time_subject_and_number() {
        let (mut snapshot, now) = sample();
        let entry = |minutes: i64, subject: &str| HistoryView {
            at: Wall(snapshot.at.wall.0 - minutes * 60_000),
            kind: "alert".into(),
            subject: subject.into(),
            incident: None,
            severity: None,
            text: String::new(),
        };
        let incident = Some(Incident("k3f9".into()));
        let oldest = HistoryView { incident, ..entry(3_000, "b") };
        snapshot.recent = [entry(1, "a/ž"), entry(5, "b"), entry(90, "a/ž"), oldest].into();
        assert_eq!(entries(&snapshot, now, ""), (3, true));
        assert_eq!(entries(&snapshot, now, "since=1h"), (2, true));
        assert_eq!(entries(&snapshot, now, "since=100h"), (4, true));
        assert_eq!(entries(&snapshot, now, "subject=a%2F%C5%BE"), (2, true));
        assert_eq!(entries(&snapshot, now, "subject=a/ž&limit=1"), (1, false));
        assert_eq!(entries(&snapshot, now, "limit=99999&subject=&incident="), (3, true));
        assert_eq!(entries(&snapshot, now, "since=100h&incident=%23k3f9"), (1, true));
        assert_eq!(entries(&snapshot, now, "since=100h&incident=k3f8"), (0, true));
        for bad in
            ["since=soon", "limit=0", "limit=-1", "limit=x", "subject=%zz", "subject=%ff", "subject=%4", "who=me"]
        {
            assert!(history(&snapshot, now, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_history_that_has_forgotten_says_so() {
        let (mut snapshot, now) = sample();
        let entry = HistoryView {
            at: snapshot.at.wall,
            kind: "alert".into(),
            subject: "x".into(),
            incident: None,
            severity: None,
            text: String::new(),
        };
        snapshot.recent = vec![entry; RECENT].into();
        assert_eq!(entries(&snapshot, now, ""), (RECENT, false));
        let tomorrow = Now { mono: Mono(now.mono.0 + 86_400_000), ..now };
        assert_eq!(entries(&snapshot, tomorrow, "since=1h"), (0, true));
    }
}
