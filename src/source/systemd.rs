//! systemd on this machine: every unit that fails, the units that are named, and timers that are late.
//!
//! Asks `systemctl`, which has one call for all failed units, one for the properties of all units that matter, and one
//! for the timers; each is bounded, in a thread that is the source's own. What cannot be asked (no `systemctl`, no
//! manager that answers, no rights) makes the source blind, never a unit well. A unit that nobody named is shown while
//! it is in trouble and until it was seen well again. Starts, stops and changes nothing. See `adr/0038-systemd.md`.

mod settings;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::settings::{SECTION, Settings, Switch};
use self::unit::{PROPERTIES, Unit, Verdict};
use super::{Ask, Entry, Outfit, Source};
use crate::client::children::Groups;
use crate::client::command::{self, CommandError};
use crate::config::veil::veil;
use crate::config::{Config, ConfigError};
use crate::core::about::{About, Details};
use crate::core::glob;
use crate::core::message::clean;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{More, Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Now, people};

/// Signals of units begin so.
const PREFIX: &str = "systemd/";
/// Units that nobody named are followed up to this many.
const FOLLOWED: usize = 200;
/// Looks at a unit that nobody named which have to be good before it is let go.
const WELL: u32 = 4;
/// Units whose journal is read in one look at most.
const JOURNALS: usize = 3;
/// Lines of a journal.
const LINES: &str = "3";
/// Characters of a line.
const LINE: usize = 200;
/// Limit of one call of systemctl or journalctl, within the program's own.
const LIMIT: Duration = Duration::from_secs(5);

/// How the program knows this source.
pub const ENTRY: Entry = Entry { name: settings::NAME, advice: "", sections: &[SECTION], build };

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let settings = Settings::read(config)?;
    let is_on = match settings.enabled {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => settings.is_wished(config) || is_process_one(Path::new("/")),
    };
    Ok(is_on.then(|| Box::new(Systemd::new(settings, outfit.clone())) as Box<dyn Source>))
}

/// True where systemd is process 1 and can be asked from here. In a container it is another's, or nobody's.
fn is_process_one(root: &Path) -> bool {
    let name = std::fs::read_to_string(root.join("proc/1/comm")).unwrap_or_default();
    name.trim() == "systemd" && root.join("run/systemd/system").is_dir()
}

/// One unit that is followed.
struct Followed {
    named: bool,
    spec: Arc<Spec>,
    /// Good looks in a row.
    well: u32,
    /// What its journal said, and as of which change of the unit.
    journal: (String, Vec<String>),
}

/// Looks at units.
struct Systemd {
    settings: Settings,
    outfit: Outfit,
    groups: Groups,
    limit: Duration,
    followed: BTreeMap<String, Followed>,
}

impl Systemd {
    fn new(settings: Settings, outfit: Outfit) -> Systemd {
        let limit = outfit.timeout.min(LIMIT);
        let mut source = Systemd { settings, outfit, groups: Groups::default(), limit, followed: BTreeMap::new() };
        // Those that were in trouble are asked for until they were seen well, also over a restart.
        let kept: Vec<String> = source
            .outfit
            .kept
            .under::<bool>(PREFIX)
            .filter(|(_, in_trouble)| *in_trouble)
            .filter_map(|(key, _)| key.as_str().strip_prefix(PREFIX).map(str::to_string))
            .collect();
        kept.into_iter().for_each(|name| source.follow(&name));
        source
    }

    fn follow(&mut self, name: &str) {
        let is_named = self.settings.units.iter().any(|unit| unit == name);
        self.followed.entry(name.to_string()).or_insert_with(|| Followed {
            named: is_named,
            spec: spec(name, is_named, ""),
            well: 0,
            journal: (String::new(), Vec::new()),
        });
    }

    /// Asks systemctl, which has to succeed.
    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let said = command::run(&self.groups, "systemctl", arguments, self.limit).map_err(|error| trouble(&error))?;
        match said.code {
            Some(0) => Ok(said.output),
            _ => Err(refused(&said.complaint)),
        }
    }

    /// All units that have failed, but for those that nobody wants to hear of.
    fn failed(&self) -> Result<Vec<String>, String> {
        if !self.settings.failed {
            return Ok(Vec::new());
        }
        let list =
            self.ask(&["list-units", "--state=failed", "--all", "--full", "--plain", "--no-legend", "--no-pager"])?;
        let exclude = &self.settings.exclude;
        Ok(unit::names(&list)
            .into_iter()
            .filter(|name| !exclude.iter().any(|glob| glob::matches(glob, name)))
            .collect())
    }

    /// The timers whose time has passed by more than they may be late.
    fn late(&self, now: Now) -> Result<BTreeMap<String, Verdict>, String> {
        let limit = self.settings.timer_late.0;
        if limit.is_zero() {
            return Ok(BTreeMap::new());
        }
        let timers = unit::units(&self.ask(&["show", PROPERTIES, "--no-pager", "--", "*.timer"])?);
        let late = timers.into_iter().filter_map(|(name, timer)| {
            let (late, due) = timer.overdue(now).filter(|(late, _)| *late > limit)?;
            let fact =
                format!("its time passed {} ago (limit {}); it starts {}", people(late), people(limit), timer.starts());
            Some((name, Verdict { reading: Reading::Down, fact, happened: "is late", since: Some(due) }))
        });
        Ok(late.collect())
    }

    /// The last lines that the unit itself wrote.
    fn journal(&self, name: &str) -> Vec<String> {
        let own = format!("_SYSTEMD_UNIT={name}");
        let arguments = ["--lines", LINES, "--output=cat", "--no-pager", own.as_str()];
        match command::run(&self.groups, "journalctl", &arguments, self.limit.min(Duration::from_secs(2))) {
            Ok(said) if said.code == Some(0) => {
                let lines = said.output.lines().map(|line| clean(&veil(line), LINE));
                let lines = lines.filter(|line| !line.is_empty() && line != "-- No entries --");
                lines.map(|line| format!("\"{line}\"")).collect()
            }
            Ok(said) if said.complaint.contains("permission") => {
                vec!["its journal cannot be read: add the watchdog's user to the group systemd-journal".to_string()]
            }
            // It is only evidence.
            _ => Vec::new(),
        }
    }

    fn look(&mut self, now: Now) -> Result<Report, String> {
        let (failed, late) = (self.failed()?, self.late(now)?);
        let troubled: BTreeSet<&String> = failed.iter().chain(late.keys()).collect();
        let strangers = troubled.iter().filter(|name| !self.settings.units.contains(**name));
        let left_out = strangers.count().saturating_sub(FOLLOWED);
        let wanted: Vec<String> = self.settings.units.iter().chain(troubled.iter().copied()).cloned().collect();
        for name in wanted {
            if self.followed.len() < FOLLOWED + self.settings.units.len() {
                self.follow(&name);
            }
        }
        let mut report = Report { complete: true, ..Report::default() };
        if !self.followed.is_empty() {
            let mut arguments = vec!["show", PROPERTIES, "--no-pager", "--"];
            arguments.extend(self.followed.keys().map(String::as_str));
            let shown = unit::units(&self.ask(&arguments)?);
            self.judge(&shown, &late, now, &mut report);
        }
        report.blind = (left_out > 0).then(|| {
            format!(
                "{FOLLOWED} failed units are followed; {left_out} more are not shown: systemctl --failed lists them"
            )
        });
        report.note = Some(self.note(failed.len(), late.len()));
        Ok(report)
    }

    fn judge(
        &mut self,
        shown: &BTreeMap<String, Unit>,
        late: &BTreeMap<String, Verdict>,
        now: Now,
        report: &mut Report,
    ) {
        let mut journals = 0;
        let names: Vec<String> = self.followed.keys().cloned().collect();
        for name in names {
            let nobody = Unit::default();
            let unit = shown.get(&name).unwrap_or(&nobody);
            let is_named = self.settings.units.contains(&name);
            if !is_named && !unit.is_known() {
                // Whoever removed it, or forgot its failure (reset-failed): it is no longer there to be watched.
                self.followed.remove(&name);
                continue;
            }
            let verdict = unit.judge(is_named, self.settings.start_limit.0, now);
            let verdict = late.get(&name).filter(|_| verdict.reading != Reading::Down).cloned().unwrap_or(verdict);
            let is_down = verdict.reading == Reading::Down;
            let reads = is_down
                && journals < JOURNALS
                && self.followed.get(&name).is_some_and(|one| one.journal.0 != unit.stamp());
            let lines = reads.then(|| self.journal(&name));
            journals += usize::from(reads);
            let Some(one) = self.followed.get_mut(&name) else { continue };
            if let Some(lines) = lines {
                one.journal = (unit.stamp(), lines);
            }
            one.well = if verdict.reading == Reading::Up { one.well.saturating_add(1) } else { 0 };
            if !is_named && one.well > WELL {
                self.followed.remove(&name);
                continue;
            }
            let description = unit.description();
            if one.named != is_named || one.spec.about.as_ref().is_none_or(|about| *about.group != *description) {
                (one.named, one.spec) = (is_named, spec(&name, is_named, &description));
            }
            report.observations.push(observation(one, verdict, &name, self.outfit.clock.now()));
        }
    }

    fn note(&self, failed: usize, late: usize) -> String {
        let named = match self.settings.units.len() {
            0 => String::new(),
            1 => "1 unit by name, ".to_string(),
            n => format!("{n} units by name, "),
        };
        let all = if self.settings.failed { format!("all that fail ({failed} now)") } else { "no others".to_string() };
        let timers =
            if self.settings.timer_late.0.is_zero() { String::new() } else { format!(", late timers ({late} now)") };
        format!("systemd: {named}{all}{timers}")
    }
}

impl Source for Systemd {
    fn name(&self) -> &str {
        settings::NAME
    }

    fn describe(&self) -> String {
        match self.settings.units.len() {
            0 => "units of systemd that fail".to_string(),
            1 => "1 unit of systemd, and all that fail".to_string(),
            n => format!("{n} units of systemd, and all that fail"),
        }
    }

    fn observe(&mut self, _: &Ask) -> Result<Report, String> {
        self.look(self.outfit.clock.now())
    }

    fn advice(&self, _: &str) -> Details {
        Details::new("cannot be read", "systemctl --failed, as the user that the watchdog runs as")
    }

    fn patience(&self) -> Duration {
        // Three questions, and some journals.
        self.limit * 3 + Duration::from_secs(2) * u32::try_from(JOURNALS).unwrap_or(1) + Duration::from_secs(1)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.groups.close();
    }
}

/// A unit that is named is somebody's service; of the others it is good to know in the morning. A service that is
/// restarted at once is no trouble yet: two looks.
fn spec(name: &str, is_named: bool, description: &str) -> Arc<Spec> {
    let severity = if is_named { Severity::Critical } else { Severity::Warning };
    let rule = Rule { fail_after: 2, recover_after: 2, ..Rule::at_once(Test::Verdict) };
    let short = name.strip_suffix(".service").unwrap_or(name);
    let about = About { name: short.into(), group: description.into(), ..About::default() };
    let key = SignalKey::new(&format!("{PREFIX}{name}"));
    Arc::new(Spec::new(key, format!("unit {name}"), severity, rule).about(about))
}

fn observation(one: &Followed, verdict: Verdict, name: &str, now: Now) -> Observation {
    let is_down = verdict.reading == Reading::Down;
    let more = More {
        happened_at: verdict.since.filter(|_| is_down),
        keep: Some((is_down || one.well <= WELL).to_string()),
        ..More::default()
    };
    let seen = Observation::new(&one.spec, now.mono, verdict.reading, verdict.fact).knowing(more);
    if !is_down {
        return seen;
    }
    let advice = match verdict.happened {
        "does not exist" => format!("systemctl list-unit-files '*{}*'", name.split(['.', '@']).next().unwrap_or(name)),
        "is masked" => format!("systemctl unmask {name}"),
        "is late" => format!("systemctl status {name}; systemctl list-timers {name}"),
        _ => format!("systemctl status {name}; journalctl -u {name} -n 50"),
    };
    let details =
        one.journal.1.iter().fold(Details::new(verdict.happened, advice), |all, line| all.with(line.as_str()));
    seen.with(details)
}

/// Why systemctl could not be asked, with the way out.
fn trouble(error: &CommandError) -> String {
    match error {
        CommandError::Missing(_) => format!(
            "{error}: run the watchdog where systemd is, or write systemd.enabled = false; in a container units cannot be seen"
        ),
        CommandError::Late(..) => format!("{error}: is systemd (process 1) or D-Bus stuck? try `systemctl status`"),
        _ => error.to_string(),
    }
}

/// What systemctl complained of, with the way out.
fn refused(complaint: &str) -> String {
    let said = clean(complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given"), LINE);
    let way_out = if said.contains("not been booted with systemd") {
        "systemd is not process 1 here; write systemd.enabled = false"
    } else if said.contains("Access denied") || said.contains("Permission denied") || said.contains("not permitted") {
        "the watchdog's user may not ask systemd; allow it in D-Bus, or run it as another user"
    } else if said.contains("connect to bus") {
        "D-Bus cannot be reached; is /run/dbus/system_bus_socket there, and may the watchdog's user open it?"
    } else {
        "try `systemctl --failed` as the watchdog's user"
    };
    format!("systemctl failed: {said}; {way_out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_by_itself_where_systemd_is_process_1_and_can_be_reached() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
            std::fs::write(root.path().join("proc/1/comm"), format!("{name}\n")).unwrap();
        };
        assert!(!is_process_one(root.path()));
        put("systemd");
        assert!(!is_process_one(root.path()), "a container that shares the machine's processes");
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert!(is_process_one(root.path()));
        put("tini");
        assert!(!is_process_one(root.path()));
    }

    #[test]
    fn what_keeps_it_from_looking_is_told_with_the_way_out() {
        for (complaint, words) in [
            (
                "System has not been booted with systemd as init system (PID 1). Can't operate.",
                "systemd.enabled = false",
            ),
            ("Failed to connect to bus: No such file or directory", "system_bus_socket"),
            ("Failed to list units: Access denied", "may not ask systemd"),
            ("", "no reason given"),
        ] {
            let said = refused(complaint);
            assert!(said.contains(words), "{said}");
        }
        assert!(trouble(&CommandError::Missing("systemctl".to_string())).contains("not installed here"));
    }
}
