//! What the watchdog tells of itself: its channels, its state file, its limits, its configuration and the clock.

use std::sync::Arc;
use std::time::Duration;

use watchdog::client::shortage::Shortage;
use watchdog::client::telegram::TelegramError;
use watchdog::core::edge::EdgeKind;
use watchdog::core::time::Wall;
use watchdog::core::watch::OWN;
use watchdog::deliver::{ChannelState, Counts, Standing};
use watchdog::notifier::{Place, SendError, telegram};
use watchdog::own::{self, Fact};
use watchdog::store::Condition;

use super::{Chapter, Scene, read};

/// What is told of this fact.
fn told(fact: &Fact) -> String {
    let spec = Arc::new(fact.spec());
    let at = watchdog::core::time::Mono(0);
    Scene::new().until(EdgeKind::Alert, OWN, || vec![fact.clone().observed(&spec, at)])
}

/// A channel after this answer, with so many messages waiting.
fn after(error: Option<&SendError>, state: ChannelState, pending: u64, oldest: Duration) -> Standing {
    Standing {
        name: "telegram".to_string(),
        state,
        pending,
        oldest: Some(oldest),
        last_error: error.map(|error| error.what.clone()),
        last_advice: error.map(|error| error.advice.to_string()),
        counts: Counts::default(),
        place: Place::AsSet,
        looked: true,
    }
}

#[test]
fn what_the_watchdog_tells_of_itself() {
    let mut chapter = Chapter::new("The watchdog itself");
    channels(&mut chapter);
    rest(&mut chapter);
    clock(&mut chapter);
    chapter.check();
}

fn channels(chapter: &mut Chapter) {
    for (code, description) in [
        (401, "Unauthorized"),
        (403, "Forbidden: bot was kicked from the supergroup chat"),
        (403, "Forbidden: bot was blocked by the user"),
        (400, "Bad Request: chat not found"),
        (400, "Bad Request: not enough rights to send text messages to the chat"),
        (400, "Bad Request: TOPIC_CLOSED"),
        (404, "Not Found"),
    ] {
        let description = description.to_string();
        let heading = format!("channel/telegram: {code} {description}");
        let refused = TelegramError::Refused { code, description, retry_after: None, migrate_to_chat_id: None };
        let standing = after(Some(&telegram::judge(&refused)), ChannelState::Refused, 3, Duration::from_secs(40));
        chapter.show(&heading, &told(&own::channel(&standing)));
    }
    let bad = telegram::judge(&TelegramError::Stranger(502));
    let late = after(Some(&bad), ChannelState::Retrying, 1, Duration::from_mins(11));
    chapter.show("channel/telegram: not delivered for long", &told(&own::channel(&late)));
    let what = "topic 7 cannot be written to (400 Bad Request: TOPIC_CLOSED), so messages go to the chat itself";
    let elsewhere = Standing { place: Place::Elsewhere(what.to_string()), ..late };
    chapter.show("channel/telegram/place: the topic is closed", &told(&own::place(&elsewhere)));
    let silent = own::deadman(Some(Err("heartbeat_url answered with status 404".to_string())));
    chapter.show("channel/heartbeat", &told(&silent));
}

fn rest(chapter: &mut Chapter) {
    let why = "the disk is full".to_string();
    let degraded = Condition::Degraded { why, since: Wall(crate::world::NEW_YEAR) };
    chapter.show("state/file", &told(&own::state(&degraded, Some("/var/lib/watchdog/state.db"))));
    for (heading, lack) in
        [("memory", Shortage::Memory), ("threads", Shortage::Threads), ("files of the machine", Shortage::AllFiles)]
    {
        chapter.show(&format!("watchdog/limits: {heading}"), &told(&own::limits(Some(lack))));
    }
    let error = "the new configuration is not used: watchdog.toml:3: `tik`: unknown key; did you mean `tick`?";
    chapter.show("config/reload", &told(&own::reload(Some(error))));
}

fn clock(chapter: &mut Chapter) {
    let hour = Duration::from_hours(1);
    let mut show = |heading: &str, change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        (0..6).for_each(|_| assert!(scene.see(OWN, Vec::new()).is_empty()));
        change(&mut scene);
        let edges = scene.see(OWN, Vec::new());
        chapter.show(heading, &read(edges, scene.world.now));
    };
    show("clock/step: back", &|scene| scene.world.set_clock(-3_600_000));
    show("clock/step: forward", &|scene| scene.world.set_clock(3_600_000));
    show("clock/step: the host slept", &|scene| scene.world.sleep(hour));
    show("clock/step: the watchdog stood still", &|scene| scene.world.pass_time(hour));
}
