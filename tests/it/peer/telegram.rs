//! A scripted Telegram on loopback.
//!
//! It checks what it is asked as strictly as the real one and more (path, headers, JSON keys, the
//! HTML, lengths), delivers everything by default, remembers it, and misbehaves as the script says,
//! one answer per connection. A request that breaks a rule gets a 400 and fails the test at the end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::html;
use super::listener::{self, Ended, Listener, hang, hang_unread, reset, wait_until};

/// The token that is let in; any other gets a 401. It must never turn up in an output.
pub const TOKEN: &str = "987654321:CANARY-token_that-must-not-show";

/// One answer of the script, for one connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Check, deliver, 200. What happens without a script.
    Deliver,
    /// 429; seconds in the body, in the `Retry-After` header, or both.
    RateLimit { body: Option<u64>, header: Option<u64> },
    /// 400: the markup cannot be parsed, whatever it is.
    Entities,
    /// 400: the group is a supergroup now, with this number.
    Migrate(i64),
    /// This code with this description, as Telegram's JSON.
    Refuse(u16, &'static str),
    /// This status with a proxy's HTML page.
    Page(u16),
    /// Delivered, but the 200 says `{"ok":true}` and nothing else.
    Bare,
    /// Delivered, unless it is for a topic, which is refused with this code and description.
    NoTopic(u16, &'static str),
    /// Delivered, but the 200 ends within its JSON.
    BrokenJson,
    /// The request is not even read.
    HangBeforeReading,
    /// Delivered, but no answer ever comes.
    HangAfterReading,
    /// The connection is reset.
    Reset,
    /// Delivered, but the answer drips a byte a second.
    OneByteASecond,
    /// Delivered, but the answer never ends.
    EndlessBody,
    /// Delivered after this long.
    Slow(Duration),
}

/// A request as it was read.
#[derive(Debug, Clone)]
pub struct Request {
    /// `sendMessage`, `getMe`.
    pub method: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The JSON body.
    pub body: Value,
    /// When it was whole.
    pub at: Instant,
}

/// A message that a person would see.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub message_id: i64,
    /// The number or name of the chat, as JSON.
    pub chat: Value,
    pub thread: Option<u64>,
    /// The visible text.
    pub text: String,
    /// What was sent for it.
    pub raw: String,
    pub html: bool,
    pub silent: bool,
    pub reply_to: Option<i64>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    requests: Vec<Request>,
    delivered: Vec<Delivered>,
    faults: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The peer. Ends when it is dropped, and panics then if it was asked anything wrong.
pub struct Telegram {
    listener: Listener,
    shared: Arc<Shared>,
}

impl Telegram {
    /// A peer that delivers everything.
    pub fn start() -> Telegram {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move || {
            let answer = serving.lock().script.pop_front().unwrap_or(Answer::Deliver);
            let serving = Arc::clone(&serving);
            move |stream: TcpStream, ended: &Ended| serve(&serving, stream, &answer, ended)
        });
        Telegram { listener, shared }
    }

    /// Answers for the next connections, in order; after them everything is delivered again.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().script.extend(answers);
    }

    /// For `telegram.api_base`.
    pub fn base_url(&self) -> String {
        self.listener.url()
    }

    /// Every request read so far, delivered or not.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Every message that a person would see, in order, repeats included.
    pub fn delivered(&self) -> Vec<Delivered> {
        self.shared.lock().delivered.clone()
    }

    /// Connections accepted so far, also those whose request was never read.
    pub fn connections(&self) -> usize {
        self.listener.connections()
    }

    /// Waits until `n` requests were read; panics after `deadline`.
    pub fn wait_for(&self, n: usize, deadline: Duration) -> Vec<Request> {
        self.wait(deadline, &format!("{n} requests"), |state| state.requests.len() >= n);
        self.requests()
    }

    /// Waits until `n` messages were delivered; panics after `deadline`.
    pub fn wait_delivered(&self, n: usize, deadline: Duration) -> Vec<Delivered> {
        self.wait(deadline, &format!("{n} messages"), |state| state.delivered.len() >= n);
        self.delivered()
    }

    fn wait(&self, deadline: Duration, what: &str, reached: impl Fn(&State) -> bool) {
        let guarded = (&self.shared.state, &self.shared.changed);
        wait_until(guarded, deadline, reached, |state| format!("{what}; requests: {:#?}", state.requests));
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        let faults = std::mem::take(&mut self.shared.lock().faults);
        if !thread::panicking() {
            assert!(faults.is_empty(), "Telegram was asked wrong things: {faults:#?}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream, answer: &Answer, ended: &Ended) {
    match answer {
        Answer::HangBeforeReading => return hang_unread(ended),
        Answer::Reset => return reset(stream),
        _ => {}
    }
    let Some(request) = listener::Request::read(&mut stream) else { return };
    let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let asked = check(&request, &body);
    let arrives = matches!(
        answer,
        Answer::Deliver
            | Answer::Bare
            | Answer::Slow(_)
            | Answer::BrokenJson
            | Answer::HangAfterReading
            | Answer::OneByteASecond
            | Answer::EndlessBody
    );
    if let Answer::Slow(span) = answer {
        ended.within(*span);
    }
    let arrives = match (answer, &asked) {
        (Answer::NoTopic(..), Asked::Message(message)) => message.thread.is_none(),
        _ => arrives,
    };
    let mut id = 0;
    {
        let mut state = shared.lock();
        let method = request.path.rsplit('/').next().unwrap_or_default().to_string();
        state.requests.push(Request { method, headers: request.headers, body, at: Instant::now() });
        if let Asked::Fault(fault) = &asked {
            state.faults.push(fault.clone());
        }
        if let (true, Asked::Message(message)) = (arrives, &asked) {
            id = 900 + i64::try_from(state.delivered.len()).unwrap();
            state.delivered.push(Delivered { message_id: id, ..message.clone() });
        }
    }
    shared.changed.notify_all();
    let (status, extra, text) = reply(&asked, answer, id);
    let head = |length: &str| {
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}Connection: close\r\n{length}\r\n")
    };
    let _ = match answer {
        Answer::HangAfterReading => return hang(&mut stream, ended),
        Answer::EndlessBody => {
            let mut sent = stream.write_all(head("").as_bytes());
            while sent.is_ok() && !ended.is() {
                sent = stream.write_all(&[b' '; 4096]);
            }
            sent
        }
        Answer::OneByteASecond => {
            let whole = format!("{}{text}", head(&format!("Content-Length: {}\r\n", text.len())));
            for byte in whole.bytes() {
                if stream.write_all(&[byte]).is_err() || ended.within(Duration::from_secs(1)) {
                    return;
                }
            }
            Ok(())
        }
        _ => stream.write_all(format!("{}{text}", head(&format!("Content-Length: {}\r\n", text.len()))).as_bytes()),
    };
}

/// Status, further headers and body of the answer.
fn reply(asked: &Asked, answer: &Answer, id: i64) -> (u16, String, String) {
    let refuse = |code: u16, description: &str, parameters: Value| {
        let mut body = json!({"ok": false, "error_code": code, "description": description});
        if parameters.as_object().is_some_and(|p| !p.is_empty()) {
            body["parameters"] = parameters;
        }
        (code, body.to_string())
    };
    let mut extra = String::new();
    let (status, text) = match (asked, answer) {
        (Asked::Fault(fault), _) => refuse(400, &format!("Bad Request: {fault}"), json!({})),
        (Asked::Stranger, _) => refuse(401, "Unauthorized", json!({})),
        (_, Answer::RateLimit { body, header }) => {
            if let Some(seconds) = header {
                extra = format!("Retry-After: {seconds}\r\n");
            }
            let parameters = body.map_or(json!({}), |seconds| json!({"retry_after": seconds}));
            refuse(429, "Too Many Requests: retry after", parameters)
        }
        (_, Answer::Entities) => {
            refuse(400, "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 7", json!({}))
        }
        (_, Answer::Migrate(to)) => {
            refuse(400, "Bad Request: group chat was upgraded to a supergroup chat", json!({"migrate_to_chat_id": to}))
        }
        (_, Answer::Refuse(code, description)) => refuse(*code, description, json!({})),
        (Asked::Message(Delivered { thread: Some(_), .. }), Answer::NoTopic(code, description)) => {
            refuse(*code, description, json!({}))
        }
        (_, Answer::Bare) => (200, r#"{"ok":true}"#.to_string()),
        (_, Answer::Page(status)) => {
            (*status, "<html><head><title>Bad Gateway</title></head><body>nginx</body></html>".to_string())
        }
        (_, Answer::BrokenJson) => (200, r#"{"ok":true,"result":{"message_id":9"#.to_string()),
        (Asked::Me, _) => (
            200,
            json!({"ok": true, "result": {"id": 987_654_321, "is_bot": true, "first_name": "W", "username": "w_bot"}})
                .to_string(),
        ),
        (Asked::Chat(chat), _) if *chat == 42 => {
            (200, json!({"ok": true, "result": {"id": 42, "type": "supergroup", "title": "Night shift"}}).to_string())
        }
        (Asked::Chat(_), _) => refuse(400, "Bad Request: chat not found", json!({})),
        (Asked::Message(message), _) => {
            let chat = message.chat.as_i64().unwrap_or(-1_009_999);
            let result = json!({"message_id": id, "chat": {"id": chat}, "date": 1_767_225_600, "text": message.text});
            (200, json!({"ok": true, "result": result}).to_string())
        }
    };
    (status, extra, text)
}

enum Asked {
    Message(Delivered),
    Me,
    /// Whether the bot knows this chat; it knows 42.
    Chat(i64),
    /// A token that nobody knows.
    Stranger,
    Fault(String),
}

fn check(request: &listener::Request, body: &Value) -> Asked {
    let Some((token, name)) = request.path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
        return Asked::Fault(format!("path {}", request.path));
    };
    if token != TOKEN {
        return Asked::Stranger;
    }
    if !request.header("user-agent").starts_with("watchdog/") || request.header("host").is_empty() {
        return Asked::Fault(format!("headers {:?}", request.headers));
    }
    match (request.verb.as_str(), name) {
        ("GET", "getMe") => Asked::Me,
        ("POST", "getChat") => Asked::Chat(body["chat_id"].as_i64().unwrap_or_default()),
        ("POST", "sendMessage") if request.header("content-type").starts_with("application/json") => {
            match message(body) {
                Ok(message) => Asked::Message(message),
                Err(fault) => Asked::Fault(fault),
            }
        }
        _ => Asked::Fault(format!("{} {name} as {}", request.verb, request.header("content-type"))),
    }
}

fn message(body: &Value) -> Result<Delivered, String> {
    let keys = body.as_object().ok_or("the body is not a JSON object")?;
    for key in keys.keys() {
        let known = [
            "chat_id",
            "message_thread_id",
            "text",
            "parse_mode",
            "link_preview_options",
            "disable_notification",
            "reply_parameters",
        ];
        if !known.contains(&key.as_str()) {
            return Err(format!("unknown key {key}"));
        }
    }
    let chat = body["chat_id"].clone();
    if !(chat.is_i64() || chat.as_str().is_some_and(|name| name.starts_with('@'))) {
        return Err(format!("chat_id {chat}"));
    }
    if body["link_preview_options"] != json!({"is_disabled": true}) {
        return Err("previews are not off".to_string());
    }
    let reply = &body["reply_parameters"];
    if !reply.is_null() && reply["allow_sending_without_reply"] != json!(true) {
        return Err("a reply to a deleted message would be lost".to_string());
    }
    let thread = body["message_thread_id"].as_u64();
    if thread.is_some_and(|thread| thread <= 1) {
        return Err("message thread not found".to_string());
    }
    let raw = body["text"].as_str().ok_or("message text is empty")?.to_string();
    let html = match &body["parse_mode"] {
        Value::Null => false,
        mode if mode == "HTML" => true,
        other => return Err(format!("parse_mode {other}")),
    };
    let text = if html { html::parse(&raw).map_err(|e| format!("can't parse entities: {e}"))? } else { raw.clone() };
    if text.trim().is_empty() {
        return Err("text must be non-empty".to_string());
    }
    if text.encode_utf16().count() > 4096 || raw.len() > 32_768 {
        return Err("message is too long".to_string());
    }
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return Err(format!("control character {c:?}"));
    }
    Ok(Delivered {
        message_id: 0,
        chat,
        thread,
        text,
        raw,
        html,
        silent: body["disable_notification"] == json!(true),
        reply_to: reply["message_id"].as_i64(),
    })
}
