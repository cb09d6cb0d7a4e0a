//! The application: fetched once per pass, judged by `[[app.rule]]`.
//!
//! Not answering is the master alarm `app/down`. An application that answers with something that
//! cannot be read is up, but this source is blind: its rules turn unknown, they do not resolve. Every
//! fetch has a total deadline and a body of at most 8 MiB; no redirect is followed. See
//! `adr/0015-reading-the-application.md`.

mod advice;
mod answer;
mod envelope;
mod exposition;
mod fact;
mod rules;
mod selector;
mod settings;
mod stamp;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use self::answer::Content;
use self::envelope::{Found, Pointer};
use self::rules::Rules;
use self::settings::{Format, Problems, RuleSettings, Settings, Target};
use self::stamp::{Freshness, Stamp};
use super::{Ask, Entry, Outfit, Source};
use crate::client::http::{Http, HttpError, Options, Response};
use crate::client::proxy::Proxies;
use crate::client::resolve::{Lane, ResolveError};
use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::about::{About, Details};
use crate::core::reach::Peer;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{More, Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::Now;

const SECTION: Section = Settings::section(settings::PATH);

/// The application as a source.
pub const ENTRY: Entry = Entry {
    name: "app",
    advice: "app.metrics_url to watch an application by its /metrics",
    sections: &[SECTION],
    build,
};

/// Bytes of an answer.
const BODY: usize = 8 * 1024 * 1024;
/// Time for reading what was fetched, on top of the fetch's own limit.
const READING: Duration = Duration::from_secs(2);

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let settings: Settings = config.section(settings::PATH)?;
    let Some(url) = settings.metrics_url.as_deref().filter(|url| !url.is_empty()) else {
        // What stands here for later should be right already.
        config.secret("app.authorization", settings.authorization.as_ref(), settings.authorization_file.as_deref())?;
        return match settings.rule.first() {
            None => Ok(None),
            Some(RuleSettings { name, .. }) => {
                Err(config.error("app.rule[0]", format!("\"{name}\" has nothing to look at: set `app.metrics_url`")))
            }
        };
    };
    let mut problems = Problems::new(config);
    let about = About { group: settings::address(url).unwrap_or_default().into(), ..About::default() };
    let down = Spec::new(
        SignalKey::new("app/down"),
        "application",
        Severity::Critical,
        Rule { fail_after: settings.down_after.max(1), ..Rule::at_once(Test::Verdict) },
    );
    let down = Arc::new(down.about(about));
    let shown = advice::shown(url);
    let mut rules = Rules::build(&settings, &down.key, &shown, &mut problems);
    let accept = accept(settings.format, rules.languages());
    let target = settings::target(&settings, url, accept, outfit.timeout, &mut problems);
    problems.unless_any(())?;
    let stamp_slot = Pointer::parse("/generated_at").map_or(0, |pointer| rules.plan.want(&pointer));
    let proxies = Proxies::of(config, "app.proxy", settings.proxy.as_ref(), settings.proxy_file.as_deref())?;
    let http = Http::new(Options {
        timeout: target.timeout,
        allow_link_local: settings.allow_link_local,
        lane: Lane::Targets,
        body_limit: BODY,
        trust: settings::trust(config, &settings)?,
        proxies,
        ..Options::default()
    });
    let stamp = Stamp::stale(outfit.kept.of(&down.key).unwrap_or_default(), settings.stale_after);
    Ok(Some(Box::new(App {
        http,
        target,
        url: shown,
        clock: outfit.clock.clone(),
        format: settings.format,
        stale_after: settings.stale_after,
        down,
        rules,
        stamp_slot,
        stamp,
        last: Report::default(),
    })))
}

/// Asks for the language that the rules speak.
fn accept(format: Format, (json, metrics): (bool, bool)) -> &'static str {
    match (format, json, metrics) {
        (Format::Prometheus, ..) | (Format::Auto, false, true) => {
            "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
        }
        (Format::Json, ..) | (Format::Auto, true, false) => "application/json,*/*;q=0.1",
        (Format::Auto, ..) => "application/json,text/plain;version=0.0.4;q=0.9,*/*;q=0.1",
    }
}

struct App {
    http: Http,
    target: Target,
    /// What is asked, as it may stand in a command.
    url: String,
    clock: Clock,
    format: Format,
    stale_after: u32,
    down: Arc<Spec>,
    rules: Rules,
    stamp_slot: usize,
    stamp: Stamp,
    /// What the rules made of the last answer that was news.
    last: Report,
}

/// How a fetch ended.
enum Fetched {
    Answer(Response),
    /// It answers, but with nothing that can be read.
    Unreadable(String),
    /// It does not answer.
    Down(String, Details),
    /// The fault may be on our side of the line.
    Unseen(String, Details),
}

/// The fault may be on our side: what it says is nothing about the application.
fn is_unseen(error: &HttpError) -> bool {
    use HttpError as E;
    matches!(error, E::Resolve(_) | E::Tls(_) | E::BadUrl | E::Own(_) | E::Proxy(_))
}

impl Source for App {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn describe(&self) -> String {
        format!("metrics of {}", self.target.shown)
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        let fetched = self.fetch();
        let now = self.clock.now();
        Ok(match fetched {
            Fetched::Answer(response) => {
                match answer::read(&response, self.format, &self.rules.plan, &self.rules.selectors) {
                    Ok(content) => self.read(&content, ask, now),
                    Err(why) => self.blind(Reading::Up, "it answers", why, now),
                }
            }
            Fetched::Unreadable(why) => self.blind(Reading::Up, "it answers", why, now),
            Fetched::Unseen(why, details) => {
                let mut report = self.blind(Reading::Unknown, "it could not be asked", why, now);
                if let Some(down) = report.observations.last_mut() {
                    down.details = Some(Arc::new(details));
                }
                report
            }
            Fetched::Down(why, details) => {
                let mut report = self.unknown("the application does not answer", now);
                report.observations.push(self.look(Reading::Down, Cow::Owned(why), now).with(details));
                report
            }
        })
    }

    fn patience(&self) -> Duration {
        self.target.timeout + READING
    }

    fn advice(&self, why: &str) -> Details {
        advice::blind(why, &self.url)
    }
}

impl App {
    fn fetch(&self) -> Fetched {
        let headers: Vec<(&str, &str)> =
            self.target.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let shown = &self.target.shown;
        match self.http.get(&self.target.url, &headers) {
            Ok(response) if (200..300).contains(&response.status) => Fetched::Answer(response),
            Ok(response) => {
                let fact = match response.status {
                    status @ 300..=399 => format!("HTTP {status}, expected 200–299; redirects are not followed"),
                    status => format!("HTTP {status}, expected 200–299"),
                };
                Fetched::Down(fact, advice::status(response.status, &self.url))
            }
            Err(error @ (HttpError::TooLarge(_) | HttpError::Coded(_))) => Fetched::Unreadable(error.to_string()),
            Err(error) => {
                let (host, port) = (&self.target.host, self.target.port);
                let details = advice::failed(&error, Peer { host, port }, &self.url);
                match &error {
                    // A name that goes away goes with its container; a resolver that is silent says nothing.
                    HttpError::Resolve(error @ (ResolveError::NotFound { .. } | ResolveError::Alone { .. })) => {
                        Fetched::Down(error.to_string(), details)
                    }
                    _ if is_unseen(&error) => {
                        Fetched::Unseen(format!("{shown}: {error}"), advice::unseen(&error, &self.url))
                    }
                    HttpError::Refused(_) => Fetched::Down(error.to_string(), details),
                    _ => Fetched::Down(format!("{shown}: {error}"), details),
                }
            }
        }
    }

    fn read(&mut self, content: &Content, ask: &Ask, now: Now) -> Report {
        let stamp = match content {
            Content::Json(picked) => picked.value(self.stamp_slot),
            Content::Metrics(_) => &Found::Missing,
        };
        let mut report = match self.stamp.judge(stamp, now.wall, self.stale_after) {
            Freshness::Fresh => self.fresh(content, now),
            Freshness::Repeated => {
                let later = self.last.observations.iter().all(|seen| seen.seen_at >= ask.fresh_since);
                Report { complete: self.last.complete && later, ..self.last.clone() }
            }
            Freshness::Stale { why, at } => {
                let report = self.blind(Reading::Up, "it answers", why, now);
                return self.keep_stamp(Report { blind_since: Some(at), ..report });
            }
            Freshness::Invalid(why) => return self.blind(Reading::Up, "it answers", why, now),
        };
        report.observations.push(self.look(Reading::Up, Cow::Borrowed("it answers"), now));
        self.keep_stamp(report)
    }

    /// Hands over whether the envelope stands still, so that it is not news to whoever comes after us.
    fn keep_stamp(&self, mut report: Report) -> Report {
        if let Some(down) = report.observations.last_mut().filter(|seen| seen.spec.key == self.down.key) {
            let keep = serde_json::to_string(self.stamp.standing(self.stale_after)).ok();
            down.more = Some(Box::new(More { keep, ..More::default() }));
        }
        report
    }

    fn fresh(&mut self, content: &Content, now: Now) -> Report {
        let mut report = Report { complete: true, ..Report::default() };
        for rule in &mut self.rules.all {
            let looked = rule.look(content, now.mono);
            report.observations.extend(looked.observations);
            if let Some(why) = looked.partial {
                report.complete = false;
                report.blind.get_or_insert(why);
            }
        }
        self.last.clone_from(&report);
        report
    }

    /// Nothing can be told about the rules, and this source says why.
    fn blind(&mut self, reading: Reading, fact: &'static str, why: String, now: Now) -> Report {
        let mut report = self.unknown(&why, now);
        report.observations.push(self.look(reading, Cow::Borrowed(fact), now));
        report.blind = Some(why);
        report
    }

    fn unknown(&self, why: &str, now: Now) -> Report {
        Report {
            observations: self.rules.all.iter().flat_map(|rule| rule.unknown(why, now.mono)).collect(),
            complete: self.rules.all.iter().all(rules::AppRule::is_known),
            ..Report::default()
        }
    }

    fn look(&self, reading: Reading, fact: Cow<'static, str>, now: Now) -> Observation {
        Observation::new(&self.down, now.mono, reading, fact)
    }
}
