//! One channel's courier: takes what is pending, says it as one message, and lets go of it only
//! after the channel acknowledged every part.
//!
//! A row may be sent twice (an answer that was lost) and is never dropped. While the channel is
//! out, what is pending gathers, and the next attempt tells all of it by incident. A message that
//! the channel does not accept is tried once more in its shortest form; a channel that does not let
//! us in is tried again every hour. Never sleeps and reads no clock: [`Courier::step`] says how
//! long to rest (`adr/0005-notifications-fail-open.md`, `adr/0006-transactional-outbox.md`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::hold::Hold;
use super::status::{ChannelState, ChannelStatus};
use crate::core::edge::Incident;
use crate::core::message::{Message, Place, Sound, Story, brief, compose, linked, stories};
use crate::core::quiet::QuietHours;
use crate::core::time::{Mono, Now};
use crate::core::zone::Zone;
use crate::notifier::{Class, Notifier, Part, Receipt, SendError};
use crate::store::{Condition, HistoryEntry, Pending, Store, StoreError};

/// Rows of the outbox told in one message at most.
pub const BATCH: usize = 1000;
/// The longest wait after a failure that may pass; the shortest is a second.
pub const BACKOFF_LIMIT: Duration = Duration::from_mins(1);
/// The wait after a refusal that only other settings can lift.
pub const REFUSED_WAIT: Duration = Duration::from_hours(1);
/// The least time between two attempts at a channel that refused, however often the configuration is read again.
pub const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// Waits up to this long are the channel's ordinary pace and no failure.
const PACE: Duration = Duration::from_secs(5);
/// Added at most to a wait that the channel named.
const SPREAD_MS: u64 = 500;

/// What to do until the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Step again after this long, or when rung (which changes nothing before).
    For(Duration),
    /// Nothing is pending: step again when rung.
    UntilRung,
}

/// One channel's delivery.
pub struct Courier {
    store: Store,
    notifier: Box<dyn Notifier>,
    channel: String,
    manners: Manners,
    hold: Hold,
    /// The program is about to end.
    ending: bool,
    status: Arc<ChannelStatus>,
    /// A message that must be finished as it was begun.
    begun: Option<Outgoing>,
    /// No attempt before this instant, and who asks for that.
    wait: Option<(Mono, Asker)>,
    /// Failures in a row.
    failures: u32,
    noted: Option<String>,
    jitter: Jitter,
}

/// Who asks for a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// We ourselves, after a failure that may pass.
    Us,
    /// The channel, to keep its pace.
    Channel,
    /// Nobody lets us in until the settings change.
    Refusal,
}

/// How a courier speaks, whatever the channel.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// The name of this watchdog in every message.
    pub instance: String,
    /// The time zone of the people who read.
    pub zone: Zone,
    /// When warnings and infos wait for the morning, if ever.
    pub quiet: Option<QuietHours>,
    /// Where people find the page, if anywhere: messages end with a link to it.
    pub page: Option<String>,
}

impl From<&str> for Manners {
    fn from(instance: &str) -> Manners {
        Manners { instance: instance.to_string(), ..Manners::default() }
    }
}

/// A message on its way.
struct Outgoing {
    ids: Vec<i64>,
    stories: Vec<Story>,
    incidents: Vec<Incident>,
    reply_to: Option<String>,
    sound: Sound,
    parts: Vec<String>,
    /// Parts acknowledged.
    sent: usize,
    /// True in the shortest form.
    brief: bool,
    receipt: Receipt,
}

impl Courier {
    /// The courier of this notifier's channel. `seed` spreads its retries, so that many watchdogs
    /// do not come back at the same instant.
    pub fn new(store: Store, notifier: Box<dyn Notifier>, manners: impl Into<Manners>, seed: u64) -> Courier {
        let channel = notifier.name().to_string();
        Courier {
            store,
            status: Arc::new(ChannelStatus::new(&channel)),
            notifier,
            channel,
            hold: Hold::default(),
            ending: false,
            manners: manners.into(),
            begun: None,
            wait: None,
            failures: 0,
            noted: None,
            jitter: Jitter(seed),
        }
    }

    /// How the channel stands, shared.
    pub fn status(&self) -> Arc<ChannelStatus> {
        Arc::clone(&self.status)
    }

    /// Goes on with the notifier of a configuration that was read again. What the channel was asked counts on,
    /// and while it is the same way out, so do its waits and a message that was begun. A refusal may have been
    /// lifted meanwhile: that is tried at once, but not again and again.
    pub fn equip(&mut self, mut notifier: Box<dyn Notifier>, manners: impl Into<Manners>) {
        notifier.keep_pace(&self.notifier.asked());
        if notifier.way() == self.notifier.way() {
            self.wait = self.wait.map(|(until, asker)| match asker {
                Asker::Us | Asker::Channel => (until, asker),
                Asker::Refusal => (until.minus(REFUSED_WAIT.saturating_sub(REFUSED_PAUSE)), Asker::Channel),
            });
        } else {
            self.begun = None;
            self.wait = None;
            self.failures = 0;
        }
        self.notifier = notifier;
        self.manners = manners.into();
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Forgets a wait that only our own backoff asks for: the program is about to end.
    pub fn hurry(&mut self) {
        self.wait = self.wait.filter(|(_, asker)| *asker != Asker::Us);
        self.ending = true;
    }

    /// One attempt, if it is time for one. Blocks as long as the notifier does.
    pub fn step(&mut self, now: Now) -> Rest {
        let rest = match self.wait {
            Some((until, _)) if until > now.mono => Rest::For(until.since(now.mono)),
            _ => {
                self.wait = None;
                self.attempt(now)
            }
        };
        if let Ok(backlog) = self.store.backlog(&self.channel) {
            self.status.set_backlog(backlog);
        }
        let place = self.notifier.place();
        self.status.change(|shown| {
            shown.looked = true;
            shown.place = place;
        });
        rest
    }

    fn attempt(&mut self, now: Now) -> Rest {
        let mut outgoing = match self.begun.take() {
            Some(begun) => begun,
            None => match self.gather(now) {
                Ok(Ok(outgoing)) => outgoing,
                Ok(Err(rest)) => return rest,
                Err(error) => return self.store_failed(now, &error),
            },
        };
        while let Some(text) = outgoing.parts.get(outgoing.sent) {
            let first = outgoing.sent == 0;
            let reply_to = outgoing.reply_to.as_deref().filter(|_| first);
            match self.notifier.send(&Part { text, reply_to, sound: outgoing.sound }) {
                Ok(receipt) => {
                    self.keep(&receipt);
                    outgoing.sent += 1;
                    if first {
                        outgoing.receipt = receipt;
                    }
                }
                Err(error) => return self.failed(now, outgoing, &error),
            }
        }
        self.acknowledge(now, outgoing)
    }

    /// What is to be told now as one message; how long to rest when nothing is.
    fn gather(&mut self, now: Now) -> Result<Result<Outgoing, Rest>, StoreError> {
        let mut rows = self.store.pending(&self.channel, BATCH)?;
        rows.truncate(whole_ticks(&rows));
        let quiet = self.manners.quiet.filter(|_| self.notifier.reaches_people());
        // What ends with the process cannot wait for the morning.
        let now_or_never = self.ending && self.store.condition() != Condition::File;
        let sorted = self.hold.sort(rows, BATCH, now, self.ending, quiet.map(|hours| (hours, &self.manners.zone)));
        let (mut rows, sound) = match sorted.held {
            held if held.is_empty() || !now_or_never => (sorted.now, None),
            held => (sorted.now.into_iter().chain(held).collect(), Some(Sound::Silent)),
        };
        self.status.change(|shown| {
            shown.holds = sorted.again.is_some();
            shown.oldest_due = rows.iter().map(|row| row.since).min();
        });
        rows = first_message(rows);
        if rows.is_empty() {
            return Ok(Err(sorted.again.map_or(Rest::UntilRung, Rest::For)));
        }
        let ids = rows.iter().map(|row| row.id).collect();
        let stories = stories(rows.into_iter().map(|row| row.edge).collect());
        let place = Place { instance: &self.manners.instance, zone: &self.manners.zone, now: now.wall };
        let message = compose(&stories, &place);
        let message = match &self.manners.page {
            Some(page) => linked(message, &stories, page),
            None => message,
        };
        Ok(Ok(Outgoing {
            ids,
            reply_to: self.reference(&message),
            parts: self.notifier.render(&message),
            sound: sound.unwrap_or(message.sound),
            incidents: message.incidents,
            stories,
            sent: 0,
            brief: false,
            receipt: Receipt::default(),
        }))
    }

    /// The receipt to answer to: only when this channel was told of every incident before.
    fn reference(&self, message: &Message) -> Option<String> {
        let wanted = message.reply_to.as_ref()?;
        let mut found = None;
        for incident in &message.incidents {
            let reference = self.store.reference(&self.channel, incident).ok()??;
            if incident == wanted {
                found = Some(reference);
            }
        }
        found
    }

    /// What the channel wants remembered is kept at once: the rest of the message may take long.
    fn keep(&self, receipt: &Receipt) {
        if let Some((name, value)) = &receipt.remember {
            tracing::info!(channel = self.channel, "{name} {value}");
            if let Err(error) = self.store.remember(&self.channel, name, value) {
                tracing::warn!(channel = self.channel, %error, "what the channel wants remembered was not kept");
            }
        }
    }

    fn acknowledge(&mut self, now: Now, outgoing: Outgoing) -> Rest {
        let Outgoing { ids, incidents, receipt, .. } = &outgoing;
        if let Err(error) = self.store.acknowledge(now, &self.channel, ids, incidents, receipt) {
            // It was sent: only the rows are still to be taken away, and nothing is sent until they are.
            self.begun = Some(outgoing);
            return self.store_failed(now, &error);
        }
        self.failures = 0;
        self.noted = None;
        self.hold.note(outgoing.stories.iter().flat_map(|story| &story.edges), now.mono);
        tracing::debug!(channel = self.channel, edges = ids.len(), "delivered");
        self.status.change(|shown| {
            shown.state = ChannelState::Ok;
            shown.last_error = None;
            shown.last_advice = "";
            shown.counts.delivered += 1;
        });
        // More may have come in the meantime.
        Rest::For(Duration::ZERO)
    }

    fn failed(&mut self, now: Now, outgoing: Outgoing, error: &SendError) -> Rest {
        let begun = outgoing.sent > 0 || outgoing.brief;
        let refused = matches!(error.class, Class::Permanent | Class::Auth);
        self.status.change(|shown| match error.class {
            Class::Transient => shown.counts.failed += 1,
            Class::RateLimited(_) => shown.counts.delayed += 1,
            Class::Permanent | Class::Auth => shown.counts.refused += 1,
        });
        if error.class == Class::Permanent && !outgoing.brief {
            self.note(now, &error.what);
            self.begun = Some(self.shortened(outgoing));
            return Rest::For(Duration::ZERO);
        }
        // A brief form that was refused is not kept: the next attempt tells what is pending then.
        let keep = begun && error.class != Class::Permanent;
        self.begun = keep.then_some(outgoing);
        match error.class {
            Class::RateLimited(after) => {
                let spread = Duration::from_millis(self.jitter.below(SPREAD_MS));
                if after > PACE {
                    self.show(now, ChannelState::Retrying, error);
                }
                self.rest(now, after.min(REFUSED_WAIT) + spread, Asker::Channel)
            }
            _ if refused => {
                self.show(now, ChannelState::Refused, error);
                self.rest(now, REFUSED_WAIT, Asker::Refusal)
            }
            _ => {
                self.show(now, ChannelState::Retrying, error);
                self.back_off(now)
            }
        }
    }

    /// The same incidents in the shortest form, from the beginning.
    fn shortened(&self, outgoing: Outgoing) -> Outgoing {
        let parts = self.notifier.render(&brief(&self.manners.instance, &outgoing.stories));
        Outgoing { parts, sent: 0, brief: true, receipt: Receipt::default(), ..outgoing }
    }

    fn store_failed(&mut self, now: Now, error: &StoreError) -> Rest {
        tracing::warn!(channel = self.channel, %error, "the outbox does not answer");
        let what = format!("the outbox does not answer: {error}");
        self.status.change(|shown| {
            shown.state = ChannelState::Retrying;
            shown.last_error = Some(what);
            shown.last_advice = "";
        });
        self.back_off(now)
    }

    fn back_off(&mut self, now: Now) -> Rest {
        let ceiling = Duration::from_secs(1 << self.failures.min(6)).min(BACKOFF_LIMIT);
        self.failures = self.failures.saturating_add(1);
        let floor = (ceiling / 2).max(Duration::from_secs(1));
        let spread = ceiling.saturating_sub(floor).as_millis();
        let wait = floor + Duration::from_millis(self.jitter.below(u64::try_from(spread).unwrap_or(0)));
        self.rest(now, wait, Asker::Us)
    }

    fn rest(&mut self, now: Now, span: Duration, asker: Asker) -> Rest {
        self.wait = Some((now.mono.plus(span), asker));
        Rest::For(span)
    }

    fn show(&mut self, now: Now, state: ChannelState, error: &SendError) {
        self.note(now, &error.what);
        self.status.change(|shown| {
            shown.state = state;
            shown.last_error = Some(error.what.clone());
            shown.last_advice = error.advice;
        });
    }

    /// Writes a failure into the history when it is a new one, not at each retry.
    fn note(&mut self, now: Now, what: &str) {
        if self.noted.as_deref() == Some(what) {
            return;
        }
        tracing::warn!(channel = self.channel, "not delivered: {what}");
        let entry = HistoryEntry {
            at: now.wall,
            kind: "failed".to_string(),
            subject: self.channel.clone(),
            incident: None,
            severity: None,
            text: what.to_string(),
        };
        if let Err(error) = self.store.note(now, &entry) {
            tracing::warn!(channel = self.channel, %error, "the failure was not written into the history");
        }
        self.noted = Some(what.to_string());
    }
}

/// How many of the rows to tell: a full batch ends before a tick that it may have cut in two,
/// unless it holds nothing but that tick.
fn whole_ticks(rows: &[Pending]) -> usize {
    let Some(last) = rows.last().filter(|_| rows.len() >= BATCH) else { return rows.len() };
    rows.iter().rposition(|row| row.tick != last.tick).map_or(rows.len(), |index| index + 1)
}

/// The rows of the first message: news of one tick that begin something are told apart from those that end
/// something; what piled up over several ticks is told at once.
fn first_message(rows: Vec<Pending>) -> Vec<Pending> {
    let Some(first) = rows.first() else { return rows };
    if rows.iter().any(|row| row.tick != first.tick) {
        return rows;
    }
    let ended: BTreeSet<Incident> =
        rows.iter().filter(|row| row.edge.kind.closes()).map(|row| row.edge.incident.clone()).collect();
    let ends_first = ended.contains(&first.edge.incident);
    rows.into_iter().filter(|row| ended.contains(&row.edge.incident) == ends_first).collect()
}

/// A small deterministic source of spread (SplitMix64).
struct Jitter(u64);

impl Jitter {
    /// A number from 0 to `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.saturating_add(1)
    }
}
