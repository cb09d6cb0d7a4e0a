//! `[[app.rule]]`: from what is written to a signal, and from what was read to its reading.
//!
//! Owns the check of every rule (each problem named by its key, `app.rule[2].when`), the choice of
//! the core's test, and the words of the fact. A value that is not there, or is not a number, is unknown
//! and never good. What counts as trouble, and for how long, is decided by the core.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::advice;
use super::answer::Content;
use super::envelope::{Found, List, Plan, Pointer, ROWS, Seen};
use super::exposition::Series;
use super::fact::{self, id_of, metric, reading};
use super::selector::Selector;
use super::settings::{Format, Nan, Problems, RuleSettings, Settings};
use crate::config::written::wrote;
use crate::core::about::About;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, SignalKey, Spec};
use crate::core::time::Mono;

/// Rules that may be given.
const RULES: usize = 200;
/// Characters of a rule's name.
const NAME: usize = 64;

/// Every rule, and what must be read for them.
#[derive(Default)]
pub struct Rules {
    /// In the order of the configuration.
    pub all: Vec<AppRule>,
    /// The places in an envelope.
    pub plan: Plan,
    /// The metrics; one selector for each rule on metrics, in order.
    pub selectors: Vec<Selector>,
}

/// One rule and what is remembered for it.
pub struct AppRule {
    value: String,
    /// When it fires, in words; empty for what is no threshold.
    limit: String,
    rule: Rule,
    /// What is not a number means this, where the rule says it.
    nan: Option<Nan>,
    place: Place,
    /// The rule's own signal; with `each` the pattern for those of the objects.
    spec: Arc<Spec>,
    /// The same for a counter that a restart sets back.
    counter: Arc<Spec>,
    /// Series seen at the last look.
    series: usize,
    /// The signals of the objects seen at the last good look.
    known: BTreeMap<String, Arc<Spec>>,
    /// The list of `each` was seen at least once.
    listed: bool,
}

enum Place {
    Value(usize),
    Each { list: usize, id: usize, value: usize, pointer: String },
    Metric(usize),
}

/// What one rule made of an answer.
#[derive(Default)]
pub struct Looked {
    /// One per signal.
    pub observations: Vec<Observation>,
    /// Why signals may be missing among them.
    pub partial: Option<String>,
}

impl Rules {
    /// Checks and prepares `settings`; `parent` is the signal that explains why nothing can be read.
    /// `url` is where the application is asked, as it may stand in a command.
    pub fn build(app: &Settings, parent: &SignalKey, url: &str, problems: &mut Problems<'_>) -> Rules {
        let (settings, format) = (app.rule.as_slice(), app.format);
        let mut rules = Rules::default();
        if settings.len() > RULES {
            problems.refuse("rule", format!("has {} tables; at most {RULES} are possible", settings.len()));
        }
        let lists: Vec<Pointer> = settings.iter().filter_map(|one| Pointer::parse(one.each.as_deref()?).ok()).collect();
        for (index, one) in settings.iter().enumerate() {
            let mut refuse = |field: &str, what: String| problems.refuse(&format!("rule[{index}].{field}"), what);
            if let Some(what) = wrong_name(&one.name) {
                refuse("name", what);
            } else if settings.iter().take(index).any(|other| other.name == one.name) {
                refuse("name", format!("\"{}\" is taken by an earlier rule", one.name));
            }
            let rule = rule(one, &mut refuse);
            let place = rules.place(one, format, &lists, &mut refuse);
            let about = About { name: one.name.as_str().into(), ..About::default() };
            let about =
                wrote(about, &one.note, &one.runbook, one.cooldown).map_err(|(field, what)| refuse(field, what));
            let (Some(rule), Some(place), Ok(about)) = (rule, place, about) else { continue };
            let about = About { usual: Some(Arc::new(advice::rule(one, rule.test, url))), ..about };
            let counts = matches!(&place, Place::Metric(_)) && one.value.split('{').next().is_some_and(is_total);
            rules.all.push(AppRule::new(one, rule, place, counts, parent, about));
        }
        rules
    }

    /// True when some rule reads an envelope, and when some rule reads metrics.
    pub fn languages(&self) -> (bool, bool) {
        let metrics = self.all.iter().filter(|r| matches!(r.place, Place::Metric(_))).count();
        (self.all.len() > metrics, metrics > 0)
    }

    fn place(
        &mut self,
        one: &RuleSettings,
        format: Format,
        lists: &[Pointer],
        refuse: &mut impl FnMut(&str, String),
    ) -> Option<Place> {
        let is_json = one.each.is_some() || one.value.starts_with('/');
        if one.value.is_empty() {
            refuse(
                "value",
                "is missing; give a JSON pointer (\"/queue/failed\") or a metric (\"jobs_failed_total\")".into(),
            );
            return None;
        }
        if one.id.is_some() && one.each.is_none() {
            refuse("id", "means nothing without `each`".to_string());
            return None;
        }
        match (is_json, format) {
            (true, Format::Prometheus) => {
                refuse("value", "is a JSON pointer, but `app.format` is \"prometheus\"".to_string());
                None
            }
            (false, Format::Json) => {
                refuse("value", "is not a JSON pointer (/a/b), but `app.format` is \"json\"".to_string());
                None
            }
            (false, _) => match Selector::parse(&one.value) {
                Ok(selector) => {
                    self.selectors.push(selector);
                    Some(Place::Metric(self.selectors.len().saturating_sub(1)))
                }
                Err(what) => {
                    refuse("value", what);
                    None
                }
            },
            (true, _) => self.json_place(one, lists, refuse),
        }
    }

    fn json_place(
        &mut self,
        one: &RuleSettings,
        lists: &[Pointer],
        refuse: &mut impl FnMut(&str, String),
    ) -> Option<Place> {
        let mut checked = |field: &str, pointer: Result<Pointer, String>| match pointer {
            Ok(pointer) => Some(pointer),
            Err(what) => {
                refuse(field, what);
                None
            }
        };
        // Each list is walked once, row by row, so nothing else can point into it.
        let outside = |pointer: Pointer| {
            if lists.iter().any(|list| list.holds(&pointer)) {
                Err("points into a list that the `each` of a rule walks; use `each` here too".to_string())
            } else {
                Ok(pointer)
            }
        };
        let Some(each) = &one.each else {
            let pointer = checked("value", Pointer::parse(&one.value).and_then(outside))?;
            return Some(Place::Value(self.plan.want(&pointer)));
        };
        let list = checked("each", Pointer::parse(each).and_then(outside));
        let value = checked("value", Pointer::relative(&one.value));
        let id = checked(
            "id",
            match &one.id {
                Some(id) => Pointer::relative(id),
                None => Err("is missing; name the field that names one object of `each`".to_string()),
            },
        );
        let (list, id, value) = (list?, id?, value?);
        let (list, id, value) = self.plan.want_each(&list, &id, &value);
        Some(Place::Each { list, id, value, pointer: each.clone() })
    }
}

impl AppRule {
    fn new(one: &RuleSettings, rule: Rule, place: Place, counts: bool, parent: &SignalKey, about: About) -> AppRule {
        let key = SignalKey::new(&format!("app/{}", one.name));
        let title = format!("application: {}", one.name);
        let plain = Spec::new(key, title, one.severity, rule).under(parent.clone()).about(about);
        let test = if rule.test == (Test::Increases { counter: false }) {
            Test::Increases { counter: true }
        } else {
            rule.test
        };
        let counter = Arc::new(Spec { rule: Rule { test, ..rule }, ..plain.clone() });
        let spec = if counts { Arc::clone(&counter) } else { Arc::new(plain) };
        let (value, limit) = (one.value.clone(), advice::limit(&one.when));
        AppRule {
            value,
            limit,
            rule,
            nan: one.nan,
            place,
            spec,
            counter,
            series: 0,
            known: BTreeMap::new(),
            listed: false,
        }
    }

    /// True when everything this rule watches is known: a list that was never seen may hold signals
    /// that an earlier run of the program knew.
    pub fn is_known(&self) -> bool {
        self.listed || !matches!(self.place, Place::Each { .. })
    }

    /// Every signal of this rule that is known, as unknown for this reason.
    pub fn unknown(&self, why: &str, seen_at: Mono) -> Vec<Observation> {
        let one = |spec: &Arc<Spec>| Observation::new(spec, seen_at, Reading::Unknown, why.to_string());
        match self.place {
            Place::Each { .. } => self.known.values().map(one).collect(),
            _ => vec![one(&self.spec)],
        }
    }

    /// Judges nothing: says what stands where this rule points.
    pub fn look(&mut self, content: &Content, seen_at: Mono) -> Looked {
        let limit = self.limit.clone();
        let single = |spec: &Arc<Spec>, (reading, fact): (Reading, Cow<'static, str>)| Looked {
            observations: vec![Observation::new(spec, seen_at, reading, limited(reading, fact, &limit))],
            partial: None,
        };
        match (&self.place, content) {
            (Place::Value(slot), Content::Json(picked)) => {
                single(&self.spec, reading(picked.value(*slot), &self.value, self.rule.test))
            }
            (Place::Each { list, id, value, pointer }, Content::Json(picked)) => {
                let (id, value, name) = (*id, *value, pointer.clone());
                self.look_each(picked.list(*list), id, value, &name, seen_at)
            }
            (Place::Metric(index), Content::Metrics(found)) => {
                let none = Series::default();
                let series = found.get(*index).unwrap_or(&none);
                let spec = self.metric_spec(series);
                single(&spec, metric(series, &self.value, self.rule.test, self.nan))
            }
            (Place::Metric(_), Content::Json(_)) => Looked {
                observations: self.unknown("the answer is JSON, and this rule names a metric", seen_at),
                partial: None,
            },
            (_, Content::Metrics(_)) => {
                let why = "the answer is a metrics page, and this rule holds a JSON pointer";
                Looked {
                    observations: self.unknown(why, seen_at),
                    partial: (!self.is_known()).then(|| why.to_string()),
                }
            }
        }
    }

    /// A counter that fell was restarted, unless it fell because a series went away.
    fn metric_spec(&mut self, series: &Series) -> Arc<Spec> {
        if series.counter && !Arc::ptr_eq(&self.spec, &self.counter) {
            self.spec = Arc::clone(&self.counter);
        }
        let fewer = series.values.len() < self.series;
        if !series.values.is_empty() {
            self.series = series.values.len();
        }
        if fewer && self.rule.test == (Test::Increases { counter: false }) {
            return Arc::new(Spec { rule: self.rule, ..(*self.spec).clone() });
        }
        Arc::clone(&self.spec)
    }

    fn look_each(&mut self, list: &List, id: usize, value: usize, pointer: &str, seen_at: Mono) -> Looked {
        if list.seen != Seen::List {
            let what = if list.seen == Seen::Missing { "is not reported" } else { "is not a list" };
            let why = format!("{pointer} {what}");
            return Looked { observations: self.unknown(&why, seen_at), partial: Some(why) };
        }
        let mut partial = list.more.then(|| format!("{pointer} has more than {ROWS} objects; the rest is not watched"));
        let mut named: BTreeMap<String, (usize, (Reading, Cow<'static, str>))> = BTreeMap::new();
        for row in &list.rows {
            let Some(id) = row.get(id).and_then(id_of) else {
                partial = Some(format!("an object of {pointer} has no id that is a text or a whole number"));
                continue;
            };
            let seen = reading(row.get(value).unwrap_or(&Found::Missing), &self.value, self.rule.test);
            named.entry(id).or_insert((0, seen)).0 += 1;
        }
        let names = fact::names_of(named.keys());
        let mut known = BTreeMap::new();
        let mut observations = Vec::with_capacity(named.len());
        for (name, (count, (reading, fact))) in names.into_iter().zip(named.into_values()) {
            let spec = self.known.remove(&name).unwrap_or_else(|| self.spec_of(&name));
            let (reading, fact) = match count {
                1 => (reading, limited(reading, fact, &self.limit)),
                n => (Reading::Unknown, Cow::Owned(format!("{n} objects of {pointer} have this id"))),
            };
            observations.push(Observation::new(&spec, seen_at, reading, fact));
            known.insert(name, spec);
        }
        self.listed = true;
        if let Some(why) = &partial {
            // Whoever is not seen now may be among those that could not be read.
            let lost = std::mem::replace(&mut self.known, known);
            for (name, spec) in lost.into_iter().take(ROWS.saturating_sub(self.known.len())) {
                observations.push(Observation::new(&spec, seen_at, Reading::Unknown, why.clone()));
                self.known.insert(name, spec);
            }
        } else {
            self.known = known;
        }
        Looked { observations, partial }
    }

    fn spec_of(&self, id: &str) -> Arc<Spec> {
        let about = self.spec.about.as_deref().cloned().unwrap_or_default();
        let about = About { name: format!("{} {id}", about.name).into(), ..about };
        Arc::new(Spec {
            key: SignalKey::new(&format!("{}/{id}", self.spec.key)),
            title: format!("{} {id}", self.spec.title).into(),
            about: Some(Arc::new(about)),
            ..(*self.spec).clone()
        })
    }
}

/// A value with the limit that it is held against.
fn limited(reading: Reading, fact: Cow<'static, str>, limit: &str) -> Cow<'static, str> {
    if limit.is_empty() || !matches!(reading, Reading::Value(_)) {
        fact
    } else {
        Cow::Owned(format!("{fact}, {limit}"))
    }
}

fn wrong_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match name {
        "" => Some("is missing; it becomes the signal app/<name>".to_string()),
        "down" => Some("\"down\" is the signal of the application itself; choose another".to_string()),
        _ if name.len() > NAME || !name.chars().all(allowed) => {
            Some(format!("\"{name}\" should be at most {NAME} letters, digits, dots, hyphens or underscores"))
        }
        _ => None,
    }
}

fn rule(one: &RuleSettings, refuse: &mut impl FnMut(&str, String)) -> Option<Rule> {
    for (field, count) in [("fail_after", one.fail_after), ("recover_after", one.recover_after)] {
        if count == 0 {
            refuse(field, "must be at least 1".to_string());
        }
    }
    let test = match parse_when(&one.when) {
        Ok(test) => test,
        Err(what) => {
            refuse("when", what);
            return None;
        }
    };
    let hold = one.r#for.map_or(Duration::ZERO, |span| span.0);
    match test {
        Test::Stalls if hold.is_zero() => {
            refuse("for", "is missing; say how long the value may stand still, for example \"10m\"".to_string());
        }
        Test::Increases { .. } if !hold.is_zero() => {
            refuse("for", "means nothing with \"increases\": each rise is told when it is seen".to_string());
        }
        _ => {}
    }
    match (one.nan, test) {
        (Some(_), _) if one.each.is_some() || one.value.starts_with('/') => {
            refuse("nan", "means nothing for a JSON pointer: JSON has no NaN".to_string());
        }
        (Some(_), Test::Absent) => {
            refuse("nan", "means nothing with \"absent\": a metric that is NaN is there".to_string());
        }
        (Some(Nan::Fire), Test::Increases { .. } | Test::Stalls) => {
            refuse("nan", "can be \"fire\" only with a threshold such as \"> 5\"".to_string());
        }
        _ => {}
    }
    let test = match (test, one.clear) {
        (test, None) => test,
        (Test::Above { limit, .. }, Some(clear)) if clear <= limit.next_up() => Test::Above { limit, clear },
        (Test::Below { limit, .. }, Some(clear)) if clear >= limit.next_down() => Test::Below { limit, clear },
        (Test::Above { .. } | Test::Below { .. }, Some(_)) => {
            refuse("clear", format!("lies on the bad side of \"{}\"", one.when));
            test
        }
        (_, Some(_)) => {
            refuse("clear", "means something only with a threshold such as \"> 5\"".to_string());
            test
        }
    };
    Some(Rule { fail_after: one.fail_after, recover_after: one.recover_after, hold, ..Rule::at_once(test) })
}

/// The test that `when` asks for. "At least 5" is "above the last number before 5".
fn parse_when(when: &str) -> Result<Test, String> {
    let wrong = || {
        format!(
            "\"{when}\" is not a condition; write \"> 5\", \">= 5\", \"< 1\", \"<= 1\", increases, stalls or absent"
        )
    };
    let text = when.trim();
    match text {
        "increases" => return Ok(Test::Increases { counter: false }),
        "stalls" => return Ok(Test::Stalls),
        "absent" => return Ok(Test::Absent),
        _ => {}
    }
    let number = |rest: &str| rest.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(wrong);
    let above = |limit: f64| Test::Above { limit, clear: limit };
    let below = |limit: f64| Test::Below { limit, clear: limit };
    if let Some(rest) = text.strip_prefix(">=") {
        number(rest).map(|n| above(n.next_down()))
    } else if let Some(rest) = text.strip_prefix('>') {
        number(rest).map(above)
    } else if let Some(rest) = text.strip_prefix("<=") {
        number(rest).map(|n| below(n.next_up()))
    } else if let Some(rest) = text.strip_prefix('<') {
        number(rest).map(below)
    } else {
        Err(wrong())
    }
}

fn is_total(name: &str) -> bool {
    name.trim_end().ends_with("_total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_its_test() {
        let above = |limit: f64| Test::Above { limit, clear: limit };
        let below = |limit: f64| Test::Below { limit, clear: limit };
        let table = [
            ("> 5", above(5.0)),
            (">5", above(5.0)),
            (" > -1.5e3 ", above(-1500.0)),
            (">= 5", above(5.0_f64.next_down())),
            ("< 1", below(1.0)),
            ("<= 1", below(1.0_f64.next_up())),
            ("<=0", below(0.0_f64.next_up())),
            ("increases", Test::Increases { counter: false }),
            ("stalls", Test::Stalls),
            ("absent", Test::Absent),
        ];
        for (when, test) in table {
            assert_eq!(parse_when(when).unwrap(), test, "{when}");
        }
        for when in
            ["", "5", "= 5", "== 5", "> five", "> NaN", "> inf", "> 1e999", "increase", "Stalls", ">", "=> 5", "> 5 %"]
        {
            assert!(parse_when(when).unwrap_err().contains("> 5"), "{when}");
        }
    }

    #[test]
    fn at_least_includes_the_number_itself() {
        let Test::Above { limit, .. } = parse_when(">= 5").unwrap() else { panic!() };
        assert!(limit < 5.0 && limit > 4.999_999);
        let Test::Below { limit, .. } = parse_when("<= 5").unwrap() else { panic!() };
        assert!(limit > 5.0 && limit < 5.000_001);
    }
}
