//! `watchdog doctor`: what stands between this machine and a watchdog that sees and can be heard, and what to type.
//!
//! One line for each part that it needs: `OK`, `!!` with the way out, or `--` for what is not set up. Looks only: it
//! sends no message, writes nothing and switches nothing. No secret is in any line, and every question has its limit.

mod here;
mod there;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::out::say;
use super::paint::{Paint, clean};
use crate::assemble;
use crate::clock::Clock;
use crate::config::{Config, Layers};

/// How long everything together may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How to look.
#[derive(Debug, Args)]
pub struct Arguments {}

/// How one part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is as it has to be.
    Fine,
    /// It is not.
    Wrong,
    /// It is not set up, or it cannot be told.
    Off,
}

/// What was found out about one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The part.
    pub part: &'static str,
    /// How it stands.
    pub mark: Mark,
    /// In words.
    pub fact: String,
    /// What to type or to change; empty for nothing.
    pub advice: Vec<String>,
}

impl Finding {
    /// It is as it has to be.
    pub fn fine(part: &'static str, fact: impl Into<String>) -> Finding {
        Finding { part, mark: Mark::Fine, fact: fact.into(), advice: Vec::new() }
    }

    /// It is not.
    pub fn wrong(part: &'static str, fact: impl Into<String>) -> Finding {
        Finding { mark: Mark::Wrong, ..Finding::fine(part, fact) }
    }

    /// It is not set up, or it cannot be told.
    pub fn off(part: &'static str, fact: impl Into<String>) -> Finding {
        Finding { mark: Mark::Off, ..Finding::fine(part, fact) }
    }

    /// The same with one more thing to do.
    #[must_use]
    pub fn so(mut self, advice: impl Into<String>) -> Finding {
        self.advice.push(advice.into());
        self
    }
}

/// 0 when nothing is wrong, 1 otherwise.
pub fn run(layers: &Layers) -> ExitCode {
    let config = Config::read(layers, &assemble::schema());
    let clock = Clock::system();
    let mut all = vec![configuration(&config, &clock)];
    all.extend(here::docker(&config));
    all.push(here::proc(&config));
    all.push(here::state(&config));
    let (theirs, date) = remote(&config, &clock);
    all.extend(theirs);
    all.push(here::clock(&clock, date.as_deref()));
    print(&all);
    let wrong = all.iter().any(|finding| finding.mark == Mark::Wrong);
    ExitCode::from(u8::from(wrong))
}

/// Everything that is wrong with the configuration, by number; `config check` shows it all.
fn configuration(config: &Config, clock: &Clock) -> Finding {
    let problems = assemble::reckon(config, clock).problems;
    let files: Vec<String> = config.files().iter().map(|file| file.display().to_string()).collect();
    let from = if files.is_empty() { "no file; variables and defaults".to_string() } else { files.join(", ") };
    match problems.as_slice() {
        [] => Finding::fine("config", from),
        [one] => Finding::wrong("config", one.to_string()).so("watchdog config check"),
        [first, rest @ ..] => {
            Finding::wrong("config", format!("{first}; and {} more", rest.len())).so("watchdog config check")
        }
    }
}

/// One question to somebody else: its part, and how it is asked.
type Question = (&'static str, fn(&Config, &Clock) -> there::Told);

/// Asks everybody else at once. Whoever has not answered in time is told so. Also the date of an answer.
fn remote(config: &Config, clock: &Clock) -> (Vec<Finding>, Option<String>) {
    const QUESTIONS: [Question; 3] = [("telegram", there::telegram), ("consul", there::consul), ("oci", there::oci)];
    let until = Instant::now() + LIMIT;
    let waiting: Vec<(&'static str, mpsc::Receiver<there::Told>)> = QUESTIONS
        .into_iter()
        .map(|(part, ask)| {
            let (tell, told) = mpsc::sync_channel(1);
            let (config, clock) = (config.clone(), clock.clone());
            // A thread that cannot be started drops its end, which is told like a late answer.
            let _ = thread::Builder::new().spawn(move || tell.send(ask(&config, &clock)));
            (part, told)
        })
        .collect();
    let mut date = None;
    let findings = waiting.into_iter().flat_map(|(part, told)| {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(told) => {
                date = date.take().or(told.date);
                told.findings
            }
            Err(_) => vec![Finding::wrong(part, format!("no answer within {} s", LIMIT.as_secs()))],
        }
    });
    let findings = findings.collect();
    (findings, date)
}

fn print(all: &[Finding]) {
    let paint = Paint::stdout();
    for finding in all {
        let mark = match finding.mark {
            Mark::Fine => "OK",
            Mark::Wrong => "!!",
            Mark::Off => "--",
        };
        let mark = if finding.mark == Mark::Wrong { paint.strong(mark) } else { mark.to_string() };
        say!("{mark}  {:<9} {}", finding.part, clean(&finding.fact));
        for line in &finding.advice {
            say!("    {:<9} → {}", "", clean(line));
        }
    }
    let wrong = all.iter().filter(|finding| finding.mark == Mark::Wrong).count();
    say!(
        "{}",
        match wrong {
            0 => "nothing is wrong".to_string(),
            1 => "1 thing to put right".to_string(),
            n => format!("{n} things to put right"),
        }
    );
}
