//! `watchdog silence`, `unsilence`, `silences`, `forget`: what is not told for a time, or never again, over the command
//! socket.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};

use super::Usage;
use super::out::{complain, say};
use super::paint::clean;
use crate::clock::Clock;
use crate::command::{Reply, Request, ask};
use crate::config::Config;
use crate::config::value::Span;
use crate::core::time::{Wall, people};
use crate::core::zone::Zone;
use crate::serve::muted::{By, MuteView};

/// What to silence, and until when.
#[derive(Debug, Args)]
pub struct Silence {
    /// A signal's key, or a glob: container/web, 'container/shop-*'
    signal: String,
    /// For how long: 30m, 2h, 3d; at most 30d
    #[arg(long = "for", value_name = "SPAN", value_parser = Span::parse, required_unless_present = "until", conflicts_with = "until")]
    span: Option<Span>,
    /// Until when: 07:30, "2026-12-01 07:30" or 2026-12-01T07:30:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for whoever finds it
    #[arg(long, default_value = "")]
    reason: String,
}

/// Which silence to end.
#[derive(Debug, Args)]
pub struct Unsilence {
    /// The signal or glob as it was silenced, or a signal that is covered
    signal: String,
}

/// What to forget.
#[derive(Debug, Args)]
pub struct Forget {
    /// A signal's key, as `watchdog status --all` shows it: container/old-web-1
    signal: String,
}

/// What to show of silences.
#[derive(Debug, Args)]
pub struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Silences a signal.
pub fn silence(config: &Config, arguments: &Silence) -> anyhow::Result<ExitCode> {
    let (now, zone) = (Clock::system().now().wall, config.root().zone().unwrap_or_default());
    let until = match (&arguments.span, &arguments.until) {
        (Some(span), _) => now.plus(span.0),
        (None, Some(text)) => instant(text, now, &zone).map_err(Usage)?,
        (None, None) => return Err(Usage("a silence must end: give --for or --until".to_string()).into()),
    };
    let (pattern, reason) = (arguments.signal.clone(), arguments.reason.clone());
    let reply = ask(&config.root().state, &Request::Silence { pattern, until, reason })?;
    if !reply.done {
        return Ok(refused(&reply));
    }
    say!("{} is silenced until {} ({})", clean(&arguments.signal), zone.instant(until, now), people(until.since(now)));
    for key in &reply.covered {
        say!("  still failing, and not told until then: {}", clean(key));
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends silences.
pub fn unsilence(config: &Config, arguments: &Unsilence) -> anyhow::Result<ExitCode> {
    let reply = ask(&config.root().state, &Request::Unsilence { pattern: arguments.signal.clone() })?;
    if !reply.done {
        return Ok(refused(&reply));
    }
    say!("{}; what is still failing is told now", clean(&reply.text));
    Ok(ExitCode::SUCCESS)
}

/// Lists the silences in force, and the maintenance windows that are open or next.
pub fn list(config: &Config, arguments: &List) -> anyhow::Result<ExitCode> {
    let (now, zone) = (Clock::system().now().wall, config.root().zone().unwrap_or_default());
    let reply = ask(&config.root().state, &Request::Silences)?;
    let mutes: Vec<MuteView> = reply.mutes.into_iter().map(MuteView::from).collect();
    if arguments.json {
        say!("{}", serde_json::to_string(&mutes)?);
        return Ok(ExitCode::SUCCESS);
    }
    mutes.iter().for_each(|mute| say!("{}", line(mute, now, &zone)));
    if mutes.is_empty() {
        say!("nothing is silenced");
    }
    Ok(ExitCode::SUCCESS)
}

/// One silence or window: `probe/*  until 07:30:00 (5h left): upgrade`.
pub fn line(mute: &MuteView, now: Wall, zone: &Zone) -> String {
    let names = clean(&mute.r#match.join(", "));
    let reason = if mute.reason.is_empty() { String::new() } else { format!(": {}", clean(&mute.reason)) };
    let until = zone.instant(mute.until, now);
    let planned = if mute.by == By::Maintenance { "maintenance " } else { "" };
    if mute.active {
        return format!("{names}  {planned}until {until} ({} left){reason}", people(mute.until.since(now)));
    }
    let (from, until) = (zone.instant(mute.since, now), zone.instant(mute.until, mute.since));
    format!("{names}  next {planned}{from} to {until} (in {}){reason}", people(mute.since.since(now)))
}

/// Forgets a signal whose subject is gone for good.
pub fn forget(config: &Config, arguments: &Forget) -> anyhow::Result<ExitCode> {
    let reply = ask(&config.root().state, &Request::Forget { subject: arguments.signal.clone() })?;
    if !reply.done {
        return Ok(refused(&reply));
    }
    say!("{}", clean(&reply.text));
    Ok(ExitCode::SUCCESS)
}

fn refused(reply: &Reply) -> ExitCode {
    complain!("watchdog: {}", clean(&reply.text));
    ExitCode::from(1)
}

/// The instant that a person means; a time of day is the next one.
fn instant(text: &str, now: Wall, zone: &Zone) -> Result<Wall, String> {
    let wall = |at: Timestamp| Wall(at.as_millisecond());
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(wall(at));
    }
    if let Ok(at) = text.parse::<DateTime>().and_then(|local| local.to_zoned_datetime(zone.rules())) {
        return Ok(wall(at.timestamp()));
    }
    let next = |time: Time| {
        let today = zone.local(now).date();
        let days = [Some(today), today.tomorrow().ok()];
        let at = |day: jiff::civil::Date| day.to_datetime(time).to_zoned_datetime(zone.rules()).ok();
        days.into_iter().flatten().filter_map(at).map(|at| wall(at.timestamp())).find(|at| *at > now)
    };
    text.parse::<Time>()
        .ok()
        .and_then(next)
        .ok_or_else(|| format!("\"{}\" is not a time; write for example 07:30 or \"2026-12-01 07:30\"", clean(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_instant_a_date_or_the_next_time_of_day() {
        let at = |text: &str| Wall(text.parse::<Timestamp>().unwrap().as_millisecond());
        let (now, zone) = (at("2026-11-26T22:00:00Z"), Zone::new(jiff::tz::TimeZone::get("Europe/Berlin").unwrap()));
        for (text, expected) in [
            ("23:30", "2026-11-26T22:30:00Z"),
            ("07:30", "2026-11-27T06:30:00Z"),
            ("2026-12-01 07:30", "2026-12-01T06:30:00Z"),
            ("2026-12-01T07:30:00Z", "2026-12-01T07:30:00Z"),
        ] {
            assert_eq!(instant(text, now, &zone), Ok(at(expected)), "{text}");
        }
        assert!(instant("tomorrow", now, &zone).is_err());
    }
}
