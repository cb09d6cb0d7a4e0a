//! Telegram: one chat, by one bot.
//!
//! Owns how a message looks there (HTML, previews off, at most 4096 UTF-16 units a part), the pace
//! that Telegram asks for, and what each of its answers means. Three answers are acted upon here, once
//! each: markup that it cannot parse is sent again as plain text, a group that became a supergroup is
//! followed, and what a topic does not take goes to the chat itself. Everything else is the courier's
//! decision, by the class of the error. Never retries, never shows the token (`adr/0005-notifications-fail-open.md`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use super::{Class, Entry, Notifier, Outfit, Part, Place, Receipt, SendError};
use crate::client::http::{Http, HttpError, Options};
use crate::client::proxy::Proxies;
use crate::client::resolve::ResolveError;
use crate::client::telegram::{Bot, Chat, LinkPreview, Reply, SendMessage, Sent, TelegramError, token_is_well_formed};
use crate::client::trust::Trust;
use crate::clock::Clock;
use crate::config::value::Secret;
use crate::config::{Config, ConfigError, Problems, form};
use crate::core::message::{Markup, Message, Sound, Style, split};
use crate::core::time::Mono;

/// UTF-16 units of one message at most.
pub const TEXT_LIMIT: usize = 4096;
/// Messages to one group within [`WINDOW`] at most.
pub const GROUP_LIMIT: usize = 20;
/// See [`GROUP_LIMIT`].
pub const WINDOW: Duration = Duration::from_mins(1);
/// Least time between two messages to one chat.
pub const GAP: Duration = Duration::from_secs(1);
/// The longest wait that an answer may impose on us.
pub const WAIT_LIMIT: Duration = Duration::from_hours(1);
/// A topic that could not be written to is tried again, with the next message, after this long.
pub const TOPIC_AGAIN: Duration = Duration::from_hours(1);
/// The wait after a 429 that names none.
const WAIT_UNNAMED: Duration = Duration::from_secs(30);

crate::settings! {
    /// Alerts by Telegram. On when a token and a chat are set.
    pub struct Settings {
        /// The bot's token, as @BotFather gave it: 123456:ABC-DEF…
        bot_token: Option<Secret> = None,
        /// File that holds bot_token.
        bot_token_file: Option<PathBuf> = None,
        /// Where alerts go: a number (groups and channels are negative) or @channelname.
        chat_id: String = String::new(),
        /// Topic of a forum group; 0 for General and for chats without topics.
        thread_id: u32 = 0,
        /// Where the Bot API is; set it for a server of your own.
        api_base: String = "https://api.telegram.org".to_string(),
        /// PEM file of the authorities that may sign the server's certificate, or of that certificate itself. Default:
        /// the bundled authorities.
        ca_file: Option<PathBuf> = None,
        /// HTTP proxy to send through: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        proxy: Option<Secret> = None,
        /// File that holds proxy.
        proxy_file: Option<PathBuf> = None,
        /// true: recoveries arrive without a sound.
        silent_recovery: bool = true,
    }
}

/// How the program knows Telegram.
pub const ENTRY: Entry = Entry {
    name: "telegram",
    about: "alerts go to the chat of telegram.chat_id",
    advice: "telegram.bot_token and telegram.chat_id to get alerts by Telegram",
    sections: &[Settings::section("telegram")],
    build,
};

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Notifier>>, ConfigError> {
    let settings: Settings = config.section("telegram")?;
    let mut problems = Problems::new(config);
    problems.check("telegram.api_base", form::url(&settings.api_base));
    let (token, chat) = credentials(config, &settings, &mut problems);
    let (Some(token), Some(chat)) = problems.unless_any((token, chat))? else { return Ok(None) };
    let http = client(config, &settings, outfit.timeout)?;
    let mut way = DefaultHasher::new();
    (settings.api_base.as_str(), token.expose(), chat.to_string()).hash(&mut way);
    Ok(Some(Box::new(Telegram {
        way: way.finish(),
        bot: Bot::new(http, &settings.api_base, token),
        chat: current_chat(&chat, outfit),
        home: chat,
        // Topic 1 is General, which must not be named.
        topic: (settings.thread_id > 1).then_some(Topic { thread: settings.thread_id, standing: Standing::NotTried }),
        silent_recovery: settings.silent_recovery,
        pace: Pace::default(),
        clock: outfit.clock.clone(),
        moved: false,
    })))
}

/// The bot of the settings, and the chat where one is set, for commands that only look; `None` without a token.
///
/// # Errors
/// A token, file or proxy that cannot be used.
pub fn bot(config: &Config, timeout: Duration) -> Result<Option<(Bot, Option<Chat>)>, ConfigError> {
    let settings: Settings = config.section("telegram")?;
    let token = config.secret("telegram.bot_token", settings.bot_token.as_ref(), settings.bot_token_file.as_deref())?;
    let Some(token) = token.map(|token| Secret::new(token.expose().trim())) else { return Ok(None) };
    let bot = Bot::new(client(config, &settings, timeout)?, &settings.api_base, token);
    Ok(Some((bot, Chat::parse(settings.chat_id.trim()))))
}

/// How the API is reached.
fn client(config: &Config, settings: &Settings, timeout: Duration) -> Result<Http, ConfigError> {
    let trust = Trust::by(settings.ca_file.as_deref(), "telegram.ca_file")
        .map_err(|what| config.error("telegram.ca_file", what))?;
    let proxies = Proxies::of(config, "telegram.proxy", settings.proxy.as_ref(), settings.proxy_file.as_deref())?;
    Ok(Http::new(Options { timeout, trust, proxies, ..Options::default() }))
}

/// The token and the chat that the settings name, as far as they can be used.
fn credentials(config: &Config, settings: &Settings, problems: &mut Problems<'_>) -> (Option<Secret>, Option<Chat>) {
    // An empty variable in a compose file means "not set", not "set to nothing".
    let token = config.secret("telegram.bot_token", settings.bot_token.as_ref(), settings.bot_token_file.as_deref());
    let token = problems.take(token).flatten().map(|token| Secret::new(token.expose().trim()));
    if token.as_ref().is_some_and(|token| !token_is_well_formed(token.expose())) {
        let what = "is not a bot token; it looks like 123456:ABC-DEF and comes from @BotFather";
        problems.refuse("telegram.bot_token", what);
    }
    let written = settings.chat_id.trim();
    let chat = Chat::parse(written);
    match (&token, &chat) {
        (Some(_), None) if written.is_empty() => {
            let what = "is missing while bot_token is set; add chat_id, the number of the chat that alerts go to";
            problems.refuse("telegram.chat_id", what);
        }
        (_, None) if !written.is_empty() => {
            problems.refuse("telegram.chat_id", "is neither a number such as -1001234567890 nor a @channelname");
        }
        (None, Some(_)) => {
            let what = "is missing while chat_id is set; add bot_token or bot_token_file, as @BotFather gave it";
            problems.refuse("telegram.bot_token", what);
        }
        _ => {}
    }
    (token, chat)
}

/// The chat of the settings, or where it moved to. The memory is named by the chat of the
/// settings, so that other settings do not inherit it.
fn current_chat(home: &Chat, outfit: &Outfit) -> Chat {
    outfit.remembered.get(&moved_name(home)).and_then(|moved| Chat::parse(moved)).unwrap_or_else(|| home.clone())
}

fn moved_name(home: &Chat) -> String {
    format!("chat {home} moved to")
}

/// One chat, by one bot.
pub struct Telegram {
    bot: Bot,
    /// The chat of the settings.
    home: Chat,
    /// Where it is now.
    chat: Chat,
    topic: Option<Topic>,
    silent_recovery: bool,
    pace: Pace,
    clock: Clock,
    /// True after a move that no receipt has carried yet.
    moved: bool,
    /// Stands for the bot and the chat of the settings.
    way: u64,
}

/// The topic of the settings.
struct Topic {
    thread: u32,
    standing: Standing,
}

/// Whether a topic takes messages.
enum Standing {
    /// No message was sent to it yet.
    NotTried,
    /// The last message reached it.
    Open,
    /// Not to be tried before this, and what a person should know.
    Closed(Mono, String),
}

impl Topic {
    /// Its number, unless it has just been found closed.
    fn open(&self, now: Mono) -> Option<u32> {
        let closed = matches!(&self.standing, Standing::Closed(until, _) if now < *until);
        (!closed).then_some(self.thread)
    }
}

impl Notifier for Telegram {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn render(&self, message: &Message) -> Vec<String> {
        split(message, &Html, TEXT_LIMIT)
    }

    fn send(&mut self, part: &Part<'_>) -> Result<Receipt, SendError> {
        let now = self.clock.now().mono;
        if let Some(wait) = self.pace.wait(now, is_group(&self.chat)) {
            let what = "telegram: waiting, to keep the pace that Telegram asks for".to_string();
            return Err(SendError { what, advice: "", class: Class::RateLimited(wait) });
        }
        let mut thread = self.topic.as_ref().and_then(|topic| topic.open(now));
        let (mut text, mut is_html, mut followed) = (Cow::Borrowed(part.text), true, false);
        loop {
            match self.once(part, &text, is_html, thread) {
                Ok(sent) => return Ok(self.accepted(sent, thread)),
                Err(TelegramError::Refused { migrate_to_chat_id: Some(number), .. })
                    if Chat::Number(number) != self.chat && number != 0 && !followed =>
                {
                    self.chat = Chat::Number(number);
                    (self.moved, followed) = (true, true);
                }
                Err(TelegramError::Refused { code: 400, description, .. })
                    if is_html && is_about_markup(&description) =>
                {
                    (text, is_html) = (Cow::Owned(plain(part.text)), false);
                }
                Err(error) if thread.is_some() && is_about_topic(&error) => {
                    self.close_topic(now, &error);
                    thread = None;
                }
                Err(error) => return Err(judge(&error)),
            }
        }
    }

    fn place(&self) -> Place {
        match self.topic.as_ref().map(|topic| &topic.standing) {
            None | Some(Standing::Open) => Place::AsSet,
            Some(Standing::NotTried) => Place::NotTried,
            Some(Standing::Closed(_, what)) => Place::Elsewhere(what.clone()),
        }
    }

    fn way(&self) -> u64 {
        self.way
    }

    fn asked(&self) -> Vec<Mono> {
        self.pace.asked.iter().copied().collect()
    }

    fn keep_pace(&mut self, asked: &[Mono]) {
        asked.iter().for_each(|at| self.pace.note(*at));
    }
}

impl Telegram {
    /// What is to be remembered of a message that arrived, in `thread` or in the chat itself.
    fn accepted(&mut self, sent: Sent, thread: Option<u32>) -> Receipt {
        if let (Some(topic), Some(_)) = (&mut self.topic, thread) {
            topic.standing = Standing::Open;
        }
        Receipt {
            reference: sent.message_id.map(|message| format!("{}/{message}", self.stand(thread))),
            remember: std::mem::take(&mut self.moved).then(|| (moved_name(&self.home), self.chat.to_string())),
        }
    }

    fn close_topic(&mut self, now: Mono, error: &TelegramError) {
        let Some(topic) = &mut self.topic else { return };
        let what = format!(
            "topic {} cannot be written to ({error}), so messages go to the chat itself; reopen the topic or let the bot \
             write there, or set telegram.thread_id",
            topic.thread
        );
        topic.standing = Standing::Closed(now.plus(TOPIC_AGAIN), what);
    }

    /// Where a message is, for references: one in the chat itself cannot be answered to from a topic.
    fn stand(&self, thread: Option<u32>) -> String {
        if self.topic.is_some() && thread.is_none() { format!("{}:0", self.chat) } else { self.chat.to_string() }
    }

    fn once(&mut self, part: &Part<'_>, text: &str, html: bool, thread: Option<u32>) -> Result<Sent, TelegramError> {
        self.pace.note(self.clock.now().mono);
        self.bot.send_message(&SendMessage {
            chat_id: &self.chat,
            message_thread_id: thread,
            text,
            parse_mode: html.then_some("HTML"),
            link_preview_options: LinkPreview { is_disabled: true },
            disable_notification: match part.sound {
                Sound::Loud => false,
                Sound::Recovery => self.silent_recovery,
                Sound::Silent => true,
            },
            reply_parameters: part.reply_to.and_then(|reference| self.reply(reference, thread)),
        })
    }

    /// A reference of this place; one from before a move names a message that is not here.
    fn reply(&self, reference: &str, thread: Option<u32>) -> Option<Reply> {
        let (place, message) = reference.rsplit_once('/')?;
        let message_id = message.parse().ok()?;
        (place == self.stand(thread)).then_some(Reply { message_id, allow_sending_without_reply: true })
    }
}

/// Telegram's HTML.
pub struct Html;

impl Markup for Html {
    fn open(&self, style: Style) -> &'static str {
        match style {
            Style::Plain => "",
            Style::Bold => "<b>",
            Style::Code => "<code>",
        }
    }

    fn close(&self, style: Style) -> &'static str {
        match style {
            Style::Plain => "",
            Style::Bold => "</b>",
            Style::Code => "</code>",
        }
    }

    fn escape(&self, c: char, out: &mut String) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
}

/// The text of what [`Html`] wrote, without its tags.
pub fn plain(html: &str) -> String {
    let mut text = html.to_string();
    for tag in ["<b>", "</b>", "<code>", "</code>"] {
        text = text.replace(tag, "");
    }
    // The ampersand last: "&amp;lt;" is the text "&lt;".
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn is_about_markup(description: &str) -> bool {
    let words = description.to_lowercase();
    words.contains("can't parse entities") || words.contains("can't find end of the entity")
}

/// True when the chat itself may take what its topic did not: the topic is deleted or closed, or the
/// bot may not write there.
fn is_about_topic(error: &TelegramError) -> bool {
    let TelegramError::Refused { code: 400 | 403, description, .. } = error else { return false };
    let words = description.to_lowercase();
    let topic = ["message thread not found", "topic_closed", "topic_deleted", "topic_id_invalid"];
    topic.iter().any(|phrase| words.contains(phrase)) || is_about_rights(&words)
}

/// True for the many ways to say that the bot is in the chat and may not write; `words` in small letters.
fn is_about_rights(words: &str) -> bool {
    ["not enough rights", "have no rights to send", "write_forbidden", "chat_send_", "chat_restricted"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

/// Groups and channels are negative; a public name is never a private chat.
fn is_group(chat: &Chat) -> bool {
    match chat {
        Chat::Number(number) => *number < 0,
        Chat::Name(_) => true,
    }
}

/// What an error means, and what a person should do about it.
pub fn judge(error: &TelegramError) -> SendError {
    let (class, advice) = match error {
        TelegramError::Refused { code, description, retry_after, .. } => match code {
            429 => {
                let wait = retry_after.map_or(WAIT_UNNAMED, Duration::from_secs);
                (Class::RateLimited(wait.clamp(GAP, WAIT_LIMIT)), "waiting as told")
            }
            401 => (Class::Auth, "the token is wrong or revoked; set telegram.bot_token"),
            400 | 403 if is_about_rights(&description.to_lowercase()) => (
                Class::Auth,
                "the bot may not write there; give it the right to send messages in the chat of telegram.chat_id",
            ),
            400 if description.contains("TOPIC_CLOSED") => (
                Class::Auth,
                "the topic General is closed; reopen it, or set telegram.thread_id to a topic that is open",
            ),
            403 => (Class::Auth, "the bot may not write there; let it into the chat of telegram.chat_id"),
            404 | 421 => {
                (Class::Auth, "the API does not know this bot; check telegram.bot_token and telegram.api_base")
            }
            409 | 500.. => (Class::Transient, "trying again"),
            400 if description.contains("chat not found") => {
                (Class::Permanent, "check telegram.chat_id, and that the bot was let into the chat")
            }
            400 if description.contains("thread not found") => (Class::Permanent, "check telegram.thread_id"),
            _ => (Class::Permanent, "Telegram does not accept the message"),
        },
        TelegramError::Http(HttpError::BadUrl) => (Class::Permanent, "check telegram.api_base"),
        TelegramError::Http(HttpError::Resolve(ResolveError::Refused(_))) => {
            (Class::Permanent, "telegram.api_base may not point there")
        }
        TelegramError::Stranger(_) => (Class::Transient, "trying again; check telegram.api_base if it lasts"),
        TelegramError::Http(_) | TelegramError::Unreadable(_) => (Class::Transient, "trying again"),
    };
    SendError { what: format!("telegram: {error}; {advice}"), advice, class }
}

/// The pace that Telegram asks for: one message a second, twenty a minute to a group.
#[derive(Debug, Default)]
struct Pace {
    /// When the last requests were made, oldest first; at most [`GROUP_LIMIT`].
    asked: VecDeque<Mono>,
}

impl Pace {
    /// How long to wait before the next request; `None` when it may be made now.
    fn wait(&self, now: Mono, group: bool) -> Option<Duration> {
        let left = |since: Option<&Mono>, span: Duration| {
            since.map_or(Duration::ZERO, |at| span.saturating_sub(now.since(*at)))
        };
        let mut wait = left(self.asked.back(), GAP);
        if group && self.asked.len() >= GROUP_LIMIT {
            wait = wait.max(left(self.asked.front(), WINDOW));
        }
        (wait > Duration::ZERO).then_some(wait)
    }

    fn note(&mut self, now: Mono) {
        while self.asked.len() >= GROUP_LIMIT {
            self.asked.pop_front();
        }
        self.asked.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_gets_twenty_messages_a_minute_and_a_person_one_a_second() {
        for (group, most) in [(true, 20), (false, 60)] {
            let mut pace = Pace::default();
            let mut sent = Vec::new();
            for ms in (0..300_000).step_by(100) {
                if pace.wait(Mono(ms), group).is_none() {
                    pace.note(Mono(ms));
                    sent.push(ms);
                }
            }
            for begin in (0..240_000).step_by(100) {
                let within = sent.iter().filter(|ms| (begin..begin + 60_000).contains(*ms)).count();
                assert!(within <= most, "{within} messages in the minute from {begin} ms, group: {group}");
            }
            assert!(sent.len() >= most * 5, "{} messages in five minutes, group: {group}", sent.len());
        }
    }

    #[test]
    fn every_code_has_its_class() {
        let class = |code, description: &str, retry_after| {
            let description = description.to_string();
            judge(&TelegramError::Refused { code, description, retry_after, migrate_to_chat_id: None }).class
        };
        assert_eq!(class(400, "Bad Request: chat not found", None), Class::Permanent);
        assert_eq!(class(400, "Bad Request: message text is empty", None), Class::Permanent);
        for code in [401, 403, 404, 421] {
            assert_eq!(class(code, "", None), Class::Auth, "{code}");
        }
        for code in [409, 500, 502, 503, 599] {
            assert_eq!(class(code, "", None), Class::Transient, "{code}");
        }
        assert_eq!(class(429, "", Some(17)), Class::RateLimited(Duration::from_secs(17)));
        assert_eq!(class(429, "", Some(0)), Class::RateLimited(GAP));
        assert_eq!(class(429, "", Some(u64::MAX)), Class::RateLimited(WAIT_LIMIT));
        assert_eq!(class(429, "", None), Class::RateLimited(WAIT_UNNAMED));
        for error in [
            TelegramError::Unreadable(200),
            TelegramError::Stranger(403),
            TelegramError::Stranger(502),
            TelegramError::Http(HttpError::Refused(([127, 0, 0, 1], 443).into())),
            TelegramError::Http(HttpError::Refused(([127, 0, 0, 1], 9).into())),
            TelegramError::Http(HttpError::Timeout(GAP, "reading the answer")),
            TelegramError::Http(HttpError::TooLarge(1)),
        ] {
            assert_eq!(judge(&error).class, Class::Transient, "{error}");
        }
        assert_eq!(judge(&TelegramError::Http(HttpError::BadUrl)).class, Class::Permanent);
    }

    #[test]
    fn what_a_topic_does_not_take_is_told_apart_from_what_nobody_takes() {
        let error = |code, description: &str| TelegramError::Refused {
            code,
            description: description.to_string(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        for (code, words) in [
            (400, "Bad Request: message thread not found"),
            (400, "Bad Request: TOPIC_CLOSED"),
            (400, "Bad Request: TOPIC_DELETED"),
            (400, "Bad Request: not enough rights to send text messages to the chat"),
            (400, "Bad Request: have no rights to send a message"),
            (403, "Forbidden: CHAT_WRITE_FORBIDDEN"),
            (400, "Bad Request: CHAT_SEND_PLAIN_FORBIDDEN"),
        ] {
            assert!(is_about_topic(&error(code, words)), "{words}");
            if !words.contains("thread") && !words.contains("TOPIC_DELETED") {
                assert_eq!(judge(&error(code, words)).class, Class::Auth, "{words}");
            }
        }
        for (code, words) in [
            (403, "Forbidden: bot was kicked from the supergroup chat"),
            (400, "Bad Request: chat not found"),
            (400, "Bad Request: message text is empty"),
            (401, "Unauthorized"),
            (429, "Too Many Requests: retry after 5"),
            (500, "TOPIC_CLOSED"),
        ] {
            assert!(!is_about_topic(&error(code, words)), "{words}");
        }
        assert!(!is_about_topic(&TelegramError::Stranger(403)));
    }

    #[test]
    fn plain_text_is_what_the_markup_was_made_from() {
        for text in ["a & b < c > d", "&lt;b&gt;", "&amp;lt;", "<b>", "\"'"] {
            let mut html = String::new();
            text.chars().for_each(|c| Html.escape(c, &mut html));
            assert_eq!(plain(&format!("<b>{html}</b> <code>{html}</code>")), format!("{text} {text}"));
        }
    }
}
