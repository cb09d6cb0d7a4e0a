//! Telegram's Bot API on the wire: the few methods we use, typed, one call each.
//!
//! No retries and no policy. The token stands in the path of every request and in no error: URLs
//! are never shown, and what the server says is searched for it. An answer that is not Telegram's
//! JSON (a proxy's page, a cut body) is an error of its own kind, because it says nothing about
//! whether the message arrived.

use serde::{Deserialize, Serialize};

use super::http::{Http, HttpError, Response};
use crate::config::value::{MASK, Secret};
use crate::core::message::clean;

/// Characters of the server's description that an error keeps.
const DESCRIPTION_LIMIT: usize = 200;

/// A bot: where its API is and what lets it in. `Debug` masks the token.
#[derive(Clone)]
pub struct Bot {
    http: Http,
    base: String,
    token: Secret,
}

/// A chat by its number, or a public channel by its `@name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Chat {
    /// A person (positive), a group or a channel (negative; `-100…` for supergroups).
    Number(i64),
    /// A public channel or supergroup, with its `@`.
    Name(String),
}

/// The body of `sendMessage`.
#[derive(Debug, Clone, Serialize)]
pub struct SendMessage<'a> {
    /// Where to.
    pub chat_id: &'a Chat,
    /// The topic of a forum; left out for General and for chats without topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<u32>,
    /// 1–4096 characters after parsing.
    pub text: &'a str,
    /// `HTML`, or nothing for plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_mode: Option<&'static str>,
    /// Whether links unfold.
    pub link_preview_options: LinkPreview,
    /// Deliver without a sound.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_notification: bool,
    /// The message this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_parameters: Option<Reply>,
}

/// How links in the text are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkPreview {
    /// No preview of any link.
    pub is_disabled: bool,
}

/// Which message is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// Its number in the same chat.
    pub message_id: i64,
    /// Send anyway when it was deleted.
    pub allow_sending_without_reply: bool,
}

/// What `sendMessage` gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The number of the new message in its chat; `None` when the answer does not name it. The message
    /// was accepted either way, and only answering to it is impossible.
    pub message_id: Option<i64>,
}

/// What `getMe` gives back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Me {
    /// The bot's number.
    pub id: i64,
    /// The bot's name, without `@`.
    #[serde(default)]
    pub username: String,
}

/// What `getChat` tells of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChatInfo {
    /// `private`, `group`, `supergroup` or `channel`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The name of a group or channel; empty for a private chat.
    #[serde(default)]
    pub title: String,
}

/// Why a method gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelegramError {
    /// No whole answer came. The request may have been received.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// Telegram said no.
    #[error("{code} {description}")]
    Refused {
        /// Its error code, the same as the HTTP status.
        code: u16,
        /// Its words, cleaned, capped, without the token.
        description: String,
        /// Seconds to wait, from the body or else the header.
        retry_after: Option<u64>,
        /// The new number of a group that became a supergroup.
        migrate_to_chat_id: Option<i64>,
    },
    /// A success whose body cannot be read. The message has probably arrived.
    #[error("status {0}, but the answer cannot be read")]
    Unreadable(u16),
    /// Something that is not the Bot API answered, such as a proxy in front of it.
    #[error("status {0} from something that is not the Bot API")]
    Stranger(u16),
}

#[derive(Deserialize)]
struct Envelope {
    ok: bool,
    result: Option<serde_json::Value>,
    error_code: Option<u16>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize, Default)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl std::fmt::Debug for Bot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bot").field("base", &self.base).field("token", &self.token).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chat::Number(number) => write!(f, "{number}"),
            Chat::Name(name) => f.write_str(name),
        }
    }
}

impl Chat {
    /// Reads `123`, `-100123` or `@name`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Chat> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('@') {
            let fits = !name.is_empty() && name.len() <= 64;
            let known = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return (fits && known).then(|| Chat::Name(text.to_string()));
        }
        text.parse().ok().filter(|number| *number != 0).map(Chat::Number)
    }
}

/// True for `<digits>:<secret>` as Telegram makes it: at most 80 characters, no leading zero.
pub fn token_is_well_formed(token: &str) -> bool {
    let Some((number, secret)) = token.split_once(':') else { return false };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    let letters = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    token.len() <= 80 && digits && letters
}

impl Bot {
    /// A bot whose API is at `base` (`https://api.telegram.org`).
    pub fn new(http: Http, base: &str, token: Secret) -> Bot {
        Bot { http, base: base.trim_end_matches('/').to_string(), token }
    }

    /// `getMe`: whose token this is.
    pub fn get_me(&self) -> Result<Me, TelegramError> {
        self.ask_me().map(|(me, _)| me)
    }

    /// The same, and the date of the answer, as HTTP writes it.
    pub fn ask_me(&self) -> Result<(Me, Option<String>), TelegramError> {
        let answer = self.http.get(&self.url("getMe"), &[])?;
        let date = answer.header("date").map(str::to_string);
        self.result(&answer).map(|me| (me, date))
    }

    /// `getChat`: whether the bot knows this chat.
    pub fn get_chat(&self, chat: &Chat) -> Result<ChatInfo, TelegramError> {
        let json = serde_json::json!({ "chat_id": chat }).to_string();
        let answer = self.http.post_json(&self.url("getChat"), &json)?;
        self.result(&answer)
    }

    /// `sendMessage`.
    pub fn send_message(&self, message: &SendMessage<'_>) -> Result<Sent, TelegramError> {
        // Numbers, texts and flags only: this cannot fail, and if it did nothing was sent.
        let json = serde_json::to_string(message)
            .map_err(|_| HttpError::Broken("the request cannot be written as JSON".to_string()))?;
        let answer = self.http.post_json(&self.url("sendMessage"), &json)?;
        self.sent(&answer)
    }

    /// `{"ok":true}` is an acknowledgement, whatever the result looks like: asking again would only
    /// send the message once more.
    fn sent(&self, answer: &Response) -> Result<Sent, TelegramError> {
        let result = self.read(answer)?;
        Ok(Sent { message_id: result.as_ref().and_then(|result| result.get("message_id")?.as_i64()) })
    }

    /// The result of a method that is asked for nothing else.
    fn result<T: for<'de> Deserialize<'de>>(&self, answer: &Response) -> Result<T, TelegramError> {
        let result = self.read(answer)?.and_then(|result| serde_json::from_value(result).ok());
        result.ok_or(TelegramError::Unreadable(answer.status))
    }

    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.base, self.token.expose())
    }

    /// What Telegram gave as its result, if anything; an error unless it said `ok`.
    fn read(&self, answer: &Response) -> Result<Option<serde_json::Value>, TelegramError> {
        let status = answer.status;
        let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
            let success = (200..300).contains(&status);
            return Err(if success { TelegramError::Unreadable(status) } else { TelegramError::Stranger(status) });
        };
        if envelope.ok {
            return Ok(envelope.result);
        }
        let parameters = envelope.parameters.unwrap_or_default();
        let words = envelope.description.unwrap_or_else(|| "(no description)".to_string());
        Err(TelegramError::Refused {
            code: envelope.error_code.unwrap_or(status),
            description: clean(&words.replace(self.token.expose(), MASK), DESCRIPTION_LIMIT),
            retry_after: parameters.retry_after.or(answer.retry_after),
            migrate_to_chat_id: parameters.migrate_to_chat_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::Options;

    fn bot() -> Bot {
        Bot::new(Http::new(Options::default()), "http://127.0.0.1:1/", Secret::new("123:canary"))
    }

    fn answer(status: u16, retry_after: Option<u64>, body: &str) -> Response {
        Response { status, retry_after, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    #[test]
    fn answers_are_told_apart() {
        let bot = bot();
        let read = |status, header, body: &str| bot.sent(&answer(status, header, body));
        let numbered = Sent { message_id: Some(5) };
        assert_eq!(read(200, None, r#"{"ok":true,"result":{"message_id":5,"date":1}}"#), Ok(numbered));
        assert_eq!(read(200, None, r#"{"ok":true,"result":{"mess"#), Err(TelegramError::Unreadable(200)));
        for accepted in [
            r#"{"ok":true}"#,
            r#"{"ok":true,"result":true}"#,
            r#"{"ok":true,"result":null}"#,
            r#"{"ok":true,"result":{"message_id":"5"}}"#,
        ] {
            assert_eq!(read(200, None, accepted), Ok(Sent { message_id: None }), "{accepted}");
            let me = bot.result::<Me>(&answer(200, None, accepted));
            assert_eq!(me, Err(TelegramError::Unreadable(200)), "{accepted}");
        }
        assert_eq!(read(502, None, "<html>Bad Gateway</html>"), Err(TelegramError::Stranger(502)));
        assert_eq!(read(403, None, ""), Err(TelegramError::Stranger(403)));
        let refused = |code, description: &str, retry_after, migrate_to_chat_id| {
            Err(TelegramError::Refused { code, description: description.to_string(), retry_after, migrate_to_chat_id })
        };
        let body = r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":17}}"#;
        assert_eq!(read(429, Some(3), body), refused(429, "Too Many Requests", Some(17), None));
        assert_eq!(read(429, Some(3), r#"{"ok":false}"#), refused(429, "(no description)", Some(3), None));
        let body = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded","parameters":{"migrate_to_chat_id":-1001234567890}}"#;
        assert_eq!(
            read(400, None, body),
            refused(400, "Bad Request: group chat was upgraded", None, Some(-1_001_234_567_890))
        );
    }

    #[test]
    fn the_token_never_shows_not_even_when_the_server_says_it() {
        let bot = bot();
        let echoed =
            r#"{"ok":false,"error_code":404,"description":"Not Found: /bot123:canary/sendMessage\n\u001b[2J"}"#;
        let error = bot.sent(&answer(404, None, echoed)).unwrap_err();
        let refused = bot.get_me().unwrap_err();
        let shown = format!("{bot:?} {error} {error:?} {refused} {refused:?}");
        assert!(!shown.contains("canary") && !shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn tokens_and_chats_are_checked_by_their_form() {
        for good in ["123:abc", "987654321:AAH_x-9"] {
            assert!(token_is_well_formed(good), "{good}");
        }
        for bad in
            ["", "123", ":abc", "0123:abc", "12a:abc", "123:", "123:a/b", "123:a b", &format!("1:{}", "x".repeat(80))]
        {
            assert!(!token_is_well_formed(bad), "{bad}");
        }
        assert_eq!(Chat::parse(" -1001234567890 "), Some(Chat::Number(-1_001_234_567_890)));
        assert_eq!(Chat::parse("@news_1"), Some(Chat::Name("@news_1".to_string())));
        for bad in ["", "0", "@", "@a b", "news", "1.5", "99999999999999999999"] {
            assert_eq!(Chat::parse(bad), None, "{bad}");
        }
    }
}
