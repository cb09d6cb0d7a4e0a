//! The Telegram channel against a scripted Telegram: every answer of its table.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchdog::client::http::{Http, Options};
use watchdog::client::telegram::{Bot, TelegramError};
use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::config::value::Secret;
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::time::Now;
use watchdog::deliver::{ChannelState, Courier, REFUSED_WAIT, Rest};
use watchdog::notifier::telegram::ENTRY;
use watchdog::notifier::{Notifier, Outfit};
use watchdog::store::{Filter, Store};

use crate::deliver::{begin, commit, edge, later};
use crate::peer::telegram::{Answer, Delivered, TOKEN, Telegram};

const GROUP: i64 = -1_001_234_567_890;

struct Rig {
    peer: Telegram,
    store: Store,
    courier: Courier,
    hand: Arc<Mutex<Now>>,
}

fn notifier(toml: &str, clock: &Clock, store: &Store) -> Box<dyn Notifier> {
    let config = Config::from_toml(toml).unwrap();
    let remembered = store.remembered("telegram").unwrap();
    let outfit = Outfit { clock: clock.clone(), timeout: Duration::from_millis(400), remembered };
    (ENTRY.build)(&config, &outfit).unwrap().unwrap()
}

impl Rig {
    fn new(chat: i64, more: &str) -> Rig {
        let peer = Telegram::start();
        let store = Store::open(None, begin(), "boot").unwrap().store;
        let (clock, hand) = Clock::by_hand(begin());
        let toml = settings(&peer, chat, more);
        let courier = Courier::new(store.clone(), notifier(&toml, &clock, &store), "web-1", 7);
        Rig { peer, store, courier, hand }
    }

    fn now(&self) -> Now {
        *self.hand.lock().unwrap()
    }

    fn pass(&self, span: Duration) {
        let mut now = self.hand.lock().unwrap();
        *now = later(*now, span);
    }

    fn say(&self, edges: &[(EdgeKind, &str)]) {
        let edges: Vec<Edge> = edges.iter().map(|(kind, name)| edge(*kind, name, self.now())).collect();
        commit(&self.store, "telegram", self.now(), &edges);
    }

    fn step(&mut self) -> Rest {
        let now = self.now();
        self.courier.step(now)
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            match self.step() {
                Rest::UntilRung => return,
                Rest::For(span) => self.pass(span),
            }
        }
        panic!("it never settles");
    }

    fn error(&self) -> String {
        self.courier.status().read(self.now().mono).last_error.unwrap_or_default()
    }

    /// Nothing that people can read holds the token.
    fn assert_no_token(&self) {
        let history = self.store.history(&Filter { limit: 1000, ..Filter::default() }).unwrap();
        let shown = format!("{history:?} {:?}", self.courier.status());
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

fn settings(peer: &Telegram, chat: i64, more: &str) -> String {
    format!("[telegram]\nbot_token = \"{TOKEN}\"\nchat_id = {chat}\napi_base = \"{}\"\n{more}", peer.base_url())
}

/// All that a person sees, one message after another.
fn text_of(delivered: &[Delivered]) -> String {
    delivered.iter().flat_map(|message| [message.text.as_str(), "\n"]).collect()
}

#[test]
fn an_alert_its_realert_and_its_recovery_reach_the_chat_as_one_thread() {
    let mut rig = Rig::new(GROUP, "thread_id = 42");
    for kind in [EdgeKind::Alert, EdgeKind::Realert, EdgeKind::Recovery] {
        rig.say(&[(kind, "k3f9")]);
        rig.settle();
        rig.pass(Duration::from_mins(1));
    }
    let delivered = rig.peer.delivered();
    assert_eq!(delivered.len(), 3);
    assert_eq!(delivered[0].raw.lines().next().unwrap(), "🔴 <b>web-1</b> · <b>probe k3f9</b> is failing");
    assert!(delivered[0].raw.contains("· <code>probe/k3f9</code> · #k3f9\n"), "{}", delivered[0].raw);
    assert!(delivered[0].text.contains("\nconnection <refused> & more"), "{}", delivered[0].text);
    assert!(delivered.iter().all(|message| message.html && message.chat == GROUP && message.thread == Some(42)));
    let replies: Vec<_> = delivered.iter().map(|message| message.reply_to).collect();
    assert_eq!(replies, [None, Some(900), Some(900)]);
    let silent: Vec<_> = delivered.iter().map(|message| message.silent).collect();
    assert_eq!(silent, [false, false, true]);
}

#[test]
fn recoveries_make_a_sound_when_asked_to_and_topic_one_is_not_named() {
    let mut rig = Rig::new(GROUP, "silent_recovery = false\nthread_id = 1");
    rig.say(&[(EdgeKind::Recovery, "k3f9")]);
    rig.settle();
    let delivered = rig.peer.delivered();
    assert_eq!((delivered[0].silent, delivered[0].thread), (false, None));
}

/// Every answer after which the message is sent again soon: the answer, and how many times a
/// person then sees it.
#[test]
fn answers_that_may_pass_are_tried_again_until_delivered() {
    let table = [
        (Answer::Refuse(500, "Internal Server Error: restart"), 1),
        (Answer::Refuse(409, "Conflict: terminated by other getUpdates request"), 1),
        (Answer::Page(502), 1),
        (Answer::Page(403), 1),
        (Answer::Reset, 1),
        (Answer::HangBeforeReading, 1),
        // Delivered, but we cannot know: a repeat is allowed, a loss is not.
        (Answer::BrokenJson, 2),
        (Answer::HangAfterReading, 2),
        (Answer::OneByteASecond, 2),
        (Answer::EndlessBody, 2),
        (Answer::Slow(Duration::from_millis(100)), 1),
    ];
    for (answer, times) in table {
        let mut rig = Rig::new(GROUP, "");
        rig.peer.script([answer.clone()]);
        rig.say(&[(EdgeKind::Alert, "k3f9")]);
        let asked = Instant::now();
        let first = rig.step();
        assert!(asked.elapsed() < Duration::from_secs(3), "{answer:?} took {:?}", asked.elapsed());
        if answer != Answer::Slow(Duration::from_millis(100)) {
            assert_eq!(first, Rest::For(Duration::from_secs(1)), "{answer:?}");
            let standing = rig.courier.status().read(rig.now().mono);
            assert_eq!((standing.state, standing.pending), (ChannelState::Retrying, 1), "{answer:?}");
        }
        rig.settle();
        let delivered = rig.peer.delivered();
        assert_eq!(delivered.len(), times, "{answer:?}");
        assert!(delivered.iter().all(|message| message.text == delivered[0].text || message.text.contains("#k3f9")));
        assert_eq!(rig.courier.status().read(rig.now().mono).state, ChannelState::Ok);
        rig.assert_no_token();
    }
}

#[test]
fn answers_that_only_other_settings_can_lift_are_told_and_tried_every_hour() {
    let table = [
        (401, "Unauthorized", "telegram.bot_token"),
        (403, "Forbidden: bot was kicked from the supergroup chat", "telegram.chat_id"),
        (403, "Forbidden: bot was blocked by the user", "telegram.chat_id"),
        (404, "Not Found", "telegram.api_base"),
        (421, "Misdirected Request: unallowed token specified", "telegram.api_base"),
    ];
    for (code, description, advice) in table {
        let mut rig = Rig::new(GROUP, "");
        rig.peer.script([Answer::Refuse(code, description)]);
        rig.say(&[(EdgeKind::Alert, "k3f9")]);
        assert_eq!(rig.step(), Rest::For(REFUSED_WAIT), "{description}");
        assert_eq!(rig.courier.status().read(rig.now().mono).state, ChannelState::Refused);
        assert!(rig.error().contains(description) && rig.error().contains(advice), "{}", rig.error());
        assert_eq!(rig.peer.requests().len(), 1);
        rig.settle();
        assert_eq!((rig.peer.requests().len(), rig.peer.delivered().len()), (2, 1), "{description}");
        rig.assert_no_token();
    }
}

#[test]
fn a_message_that_is_not_accepted_comes_in_its_shortest_form() {
    let mut rig = Rig::new(GROUP, "");
    rig.peer.script([Answer::Refuse(400, "Bad Request: message is too long")]);
    rig.say(&[(EdgeKind::Alert, "k3f9")]);
    rig.settle();
    let delivered = rig.peer.delivered();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].text, "web-1\nalert probe/k3f9 #k3f9");
    let chat = Answer::Refuse(400, "Bad Request: chat not found");
    rig.peer.script([chat.clone(), chat]);
    rig.say(&[(EdgeKind::Alert, "wrong")]);
    while rig.courier.status().read(rig.now().mono).state != ChannelState::Refused {
        let Rest::For(span) = rig.step() else { panic!("given up without saying so") };
        if span < REFUSED_WAIT {
            rig.pass(span);
        }
    }
    assert!(rig.error().contains("check telegram.chat_id"), "{}", rig.error());
    assert_eq!(rig.courier.status().read(rig.now().mono).pending, 1, "nothing is dropped");
}

#[test]
fn a_named_wait_is_obeyed_from_the_body_or_the_header_and_capped() {
    let table = [
        (Some(17), Some(99), 17),
        (Some(17), None, 17),
        (None, Some(9), 9),
        (None, None, 30),
        (Some(10_000_000), None, 3600),
    ];
    for (body, header, seconds) in table {
        let mut rig = Rig::new(GROUP, "");
        rig.peer.script([Answer::RateLimit { body, header }]);
        rig.say(&[(EdgeKind::Alert, "k3f9")]);
        let Rest::For(span) = rig.step() else { panic!("nothing pending") };
        assert_eq!(span.as_secs(), seconds, "{body:?} {header:?}");
        rig.say(&[(EdgeKind::Alert, "next")]);
        rig.pass(span.saturating_sub(Duration::from_secs(1)));
        rig.step();
        assert_eq!(rig.peer.requests().len(), 1, "asked again too early");
        rig.settle();
        let delivered = rig.peer.delivered();
        assert_eq!(delivered.len(), 1, "what came while waiting is told in one message");
        assert!(delivered[0].text.contains("#k3f9") && delivered[0].text.contains("#next"));
    }
}

#[test]
fn what_is_accepted_without_a_number_is_accepted_and_only_the_thread_is_lost() {
    let mut rig = Rig::new(GROUP, "");
    rig.peer.script([Answer::Bare]);
    rig.say(&[(EdgeKind::Alert, "k3f9")]);
    rig.settle();
    rig.pass(Duration::from_mins(1));
    rig.say(&[(EdgeKind::Recovery, "k3f9")]);
    rig.settle();
    let delivered = rig.peer.delivered();
    assert_eq!(delivered.len(), 2, "{delivered:?}");
    assert_eq!(delivered[1].reply_to, None);
    assert_eq!(rig.courier.status().read(rig.now().mono).counts.failed, 0);
}

/// How Telegram says that a topic takes nothing.
const TOPIC_REFUSALS: [(u16, &str); 4] = [
    (400, "Bad Request: message thread not found"),
    (400, "Bad Request: TOPIC_CLOSED"),
    (400, "Bad Request: not enough rights to send text messages to the chat"),
    (403, "Forbidden: CHAT_WRITE_FORBIDDEN"),
];

#[test]
fn what_a_topic_does_not_take_goes_to_the_chat_until_the_topic_takes_it_again() {
    for (code, description) in TOPIC_REFUSALS {
        let mut rig = Rig::new(GROUP, "thread_id = 42");
        let closed = Answer::NoTopic(code, description);
        // The topic, the chat itself, and then only the chat.
        rig.peer.script([closed.clone(), closed.clone(), closed.clone()]);
        rig.say(&[(EdgeKind::Alert, "k3f9")]);
        rig.settle();
        rig.pass(Duration::from_mins(1));
        rig.say(&[(EdgeKind::Recovery, "k3f9")]);
        rig.settle();
        let (requests, delivered) = (rig.peer.requests().len(), rig.peer.delivered());
        assert_eq!((requests, delivered.len()), (3, 2), "{description}: {delivered:?}");
        assert!(delivered.iter().all(|message| message.thread.is_none() && message.chat == GROUP), "{delivered:?}");
        assert!(
            delivered[0].text.contains("\nconnection <refused>"),
            "in full, not in its shortest form: {delivered:?}"
        );
        assert_eq!(delivered[1].reply_to, Some(delivered[0].message_id), "one thread in the chat, too");
        assert_eq!(rig.courier.status().read(rig.now().mono).state, ChannelState::Ok);
        // An hour later the topic is tried again, and works.
        rig.pass(Duration::from_hours(1));
        rig.say(&[(EdgeKind::Alert, "next")]);
        rig.settle();
        let last = rig.peer.delivered().pop().unwrap();
        assert_eq!((rig.peer.requests().len(), last.thread), (4, Some(42)), "{description}");
        rig.say(&[(EdgeKind::Recovery, "k3f9")]);
        rig.settle();
        let last = rig.peer.delivered().pop().unwrap();
        assert_eq!((last.thread, last.reply_to), (Some(42), None), "what it answers is in another place");
        rig.assert_no_token();
    }
}

#[test]
fn a_chat_that_does_not_let_the_bot_write_says_what_to_change() {
    for (code, description, advice) in [
        (400, "Bad Request: not enough rights to send text messages to the chat", "the right to send messages"),
        (400, "Bad Request: have no rights to send a message", "the right to send messages"),
        (403, "Forbidden: CHAT_WRITE_FORBIDDEN", "the right to send messages"),
        (400, "Bad Request: TOPIC_CLOSED", "reopen it, or set telegram.thread_id"),
    ] {
        let mut rig = Rig::new(GROUP, "");
        rig.peer.script([Answer::Refuse(code, description)]);
        rig.say(&[(EdgeKind::Alert, "k3f9")]);
        assert_eq!(rig.step(), Rest::For(REFUSED_WAIT), "{description}");
        assert!(rig.error().contains(advice), "{}", rig.error());
        rig.settle();
        assert_eq!((rig.peer.requests().len(), rig.peer.delivered().len()), (2, 1), "{description}");
    }
}

#[test]
fn markup_that_is_refused_is_sent_again_at_once_as_plain_text() {
    let mut rig = Rig::new(GROUP, "");
    rig.peer.script([Answer::Entities]);
    rig.say(&[(EdgeKind::Alert, "k3f9")]);
    assert_eq!(rig.step(), Rest::For(Duration::ZERO));
    let delivered = rig.peer.delivered();
    assert_eq!((rig.peer.requests().len(), delivered.len()), (2, 1));
    assert!(!delivered[0].html && delivered[0].text.contains("\nconnection <refused> & more"), "{}", delivered[0].text);
    assert!(!delivered[0].text.contains("<b>"));
}

#[test]
fn a_group_that_became_a_supergroup_is_followed_and_remembered() {
    let mut rig = Rig::new(-55, "");
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    rig.settle();
    rig.pass(Duration::from_mins(1));
    rig.peer.script([Answer::Migrate(GROUP)]);
    rig.say(&[(EdgeKind::Recovery, "aaaa")]);
    rig.settle();
    let delivered = rig.peer.delivered();
    assert_eq!(delivered.len(), 2);
    assert_eq!(delivered[0].chat, -55);
    assert_eq!(
        (delivered[1].chat.as_i64(), delivered[1].reply_to),
        (Some(GROUP), None),
        "the first message is not there"
    );
    // A restart goes to the new chat at once; other settings do not inherit it.
    let (clock, _hand) = Clock::by_hand(later(rig.now(), Duration::from_mins(1)));
    for (chat, expected) in [(-55, GROUP), (-66, -66)] {
        let again = notifier(&settings(&rig.peer, chat, ""), &clock, &rig.store);
        let mut courier = Courier::new(rig.store.clone(), again, "web-1", 8);
        commit(&rig.store, "telegram", clock.now(), &[edge(EdgeKind::Alert, &format!("to{chat}"), clock.now())]);
        courier.step(clock.now());
        assert_eq!(rig.peer.delivered().last().unwrap().chat, expected);
    }
    // Moving in circles ends.
    let mut circle = Rig::new(-55, "");
    circle.peer.script([Answer::Migrate(-56), Answer::Migrate(-55)]);
    circle.say(&[(EdgeKind::Alert, "aaaa")]);
    circle.step();
    assert_eq!(circle.peer.requests().len(), 2);
    circle.settle();
    assert_eq!(circle.peer.delivered().len(), 1);
}

#[test]
fn five_hundred_alerts_are_a_digest_that_names_every_signal_within_the_pace() {
    let mut rig = Rig::new(GROUP, "");
    let names: Vec<String> = (0..500).map(|n| format!("n{n}")).collect();
    rig.say(&names.iter().map(|name| (EdgeKind::Alert, name.as_str())).collect::<Vec<_>>());
    rig.settle();
    let delivered = rig.peer.delivered();
    assert!(delivered.len() <= 20, "{} messages", delivered.len());
    let text = text_of(&delivered);
    for name in &names {
        assert!(text.contains(&format!("🔴 probe/{name} #{name}\n")), "{name}");
    }
    assert!(text.starts_with("🔴 web-1 · 500 alerts: probe n0, probe n1, probe n2 and 497 more\n"));
}

#[test]
fn a_group_never_gets_more_than_twenty_messages_a_minute() {
    let mut rig = Rig::new(GROUP, "");
    let mut sent_at = Vec::new();
    for n in 0..300 {
        rig.say(&[(EdgeKind::Alert, &format!("n{n}"))]);
        let before = rig.peer.delivered().len();
        rig.step();
        if rig.peer.delivered().len() > before {
            sent_at.push(rig.now().mono.0);
        }
        rig.pass(Duration::from_millis(700));
    }
    for begin in &sent_at {
        let within = sent_at.iter().filter(|at| (*begin..*begin + 60_000).contains(*at)).count();
        assert!(within <= 20, "{within} messages in a minute");
    }
    rig.settle();
    let text = text_of(&rig.peer.delivered());
    assert!((0..300).all(|n| text.contains(&format!("#n{n}\n")) || text.contains(&format!("#n{n} "))));
}

#[test]
fn an_unreachable_server_and_a_wrong_token_say_nothing_of_the_token() {
    let peer = Telegram::start();
    let http = Http::new(Options { timeout: Duration::from_millis(400), ..Options::default() });
    let bot = |base: &str, token: &str| Bot::new(http.clone(), base, Secret::new(token));
    let me = bot(&peer.base_url(), TOKEN).get_me().unwrap();
    assert_eq!((me.id, me.username.as_str()), (987_654_321, "w_bot"));
    let wrong = bot(&peer.base_url(), "1:CANARY").get_me().unwrap_err();
    assert!(matches!(wrong, TelegramError::Refused { code: 401, .. }), "{wrong}");
    for base in ["http://127.0.0.1:1", "http://no-such-name.invalid", "ftp://x", "http://169.254.169.254"] {
        let error = bot(base, TOKEN).get_me().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
}

#[test]
fn half_a_configuration_says_what_to_add() {
    let clock = Clock::system();
    let build = |toml: &str| {
        let outfit = Outfit { clock: clock.clone(), timeout: Duration::from_secs(1), remembered: BTreeMap::new() };
        (ENTRY.build)(&Config::from_toml(toml).unwrap(), &outfit).map(|on| on.is_some())
    };
    assert_eq!(build(""), Ok(false));
    assert_eq!(build("[telegram]\nbot_token = \"\"\nchat_id = \"\""), Ok(false), "empty variables are not set");
    assert_eq!(build("[telegram]\nbot_token = \"1:a\"\nchat_id = \"@news\""), Ok(true));
    for (toml, key, word) in [
        ("bot_token = \"1:a\"", "telegram.chat_id", "add chat_id"),
        ("chat_id = 5", "telegram.bot_token", "add bot_token"),
        ("bot_token = \"CANARY\"\nchat_id = 5", "telegram.bot_token", "@BotFather"),
        ("bot_token = \"1:a\"\nchat_id = \"news\"", "telegram.chat_id", "@channelname"),
        ("bot_token = \"1:a\"\nchat_id = 5\napi_base = \"api.telegram.org\"", "telegram.api_base", "https://"),
        ("bot_token = \"1:a\"\nbot_token_file = \"/x\"\nchat_id = 5", "telegram.bot_token", "both"),
    ] {
        let error = build(&format!("[telegram]\n{toml}")).unwrap_err();
        assert_eq!(error.problems[0].key, key, "{error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains("CANARY"), "{error}");
    }
}
