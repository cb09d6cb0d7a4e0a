//! A scripted Consul that has nothing but keys: what its listings say of themselves (leader, contact, index,
//! filter) is set by the test, and each request is kept. A real one says such things seldom, or never.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::listener::{Ended, Listener, Request, hang};

/// What it holds and says.
pub struct Held {
    /// Key to value and holder.
    pub keys: BTreeMap<String, (String, Option<String>)>,
    pub index: u64,
    pub known_leader: bool,
    /// Milliseconds since it heard of the leader.
    pub last_contact: u64,
    /// It says that ACLs have left keys out.
    pub filtered: bool,
    /// Keys that are left out of listings, and denied when they are asked for by name.
    pub hidden: Vec<String>,
    /// Listings are never answered.
    pub hangs: bool,
}

/// The peer. Ends when it is dropped.
pub struct Kv {
    listener: Listener,
    held: Arc<Mutex<Held>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Kv {
    /// A leader with these keys, all of them held by a session.
    pub fn start(keys: &[&str]) -> Kv {
        let keys = keys.iter().map(|key| ((*key).to_string(), ("{}".to_string(), Some("session".to_string()))));
        let held = Arc::new(Mutex::new(Held {
            keys: keys.collect(),
            index: 10,
            known_leader: true,
            last_contact: 0,
            filtered: false,
            hidden: Vec::new(),
            hangs: false,
        }));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (holding, noting) = (Arc::clone(&held), Arc::clone(&asked));
        let listener = Listener::start(move || {
            let (held, asked) = (Arc::clone(&holding), Arc::clone(&noting));
            move |stream: TcpStream, ended: &Ended| serve(stream, &held, &asked, ended)
        });
        Kv { listener, held, asked }
    }

    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// To be changed. Whoever changes keys moves the index.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// Verb and path of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, held: &Mutex<Held>, asked: &Mutex<Vec<String>>, ended: &Ended) {
    let Some(request) = Request::read(&mut stream) else { return };
    asked.lock().unwrap().push(format!("{} {}", request.verb, request.path));
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.trim_start_matches("/v1/kv/").to_string();
    if query.contains("recurse") && held.lock().unwrap().hangs {
        return hang(&mut stream, ended);
    }
    let answer = {
        let mut held = held.lock().unwrap();
        let (status, body) = answer(&mut held, &request, &key, query);
        format!(
            "HTTP/1.1 {status} X\r\nX-Consul-Index: {}\r\nX-Consul-KnownLeader: {}\r\nX-Consul-LastContact: {}\r\n\
             X-Consul-Results-Filtered-By-ACLs: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            held.index,
            held.known_leader,
            held.last_contact,
            held.filtered,
            body.len(),
        )
    };
    let _ = stream.write_all(answer.as_bytes());
}

fn answer(held: &mut Held, request: &Request, key: &str, query: &str) -> (u16, String) {
    let pair = |(key, (value, session)): (&String, &(String, Option<String>))| {
        let mut pair = json!({"Key": key, "Value": STANDARD.encode(value), "Flags": 0, "LockIndex": 1,
            "CreateIndex": 1, "ModifyIndex": 1});
        if let Some(session) = session {
            pair["Session"] = json!(session);
        }
        pair
    };
    if request.verb == "PUT" {
        held.keys.insert(key.to_string(), (String::from_utf8_lossy(&request.body).into_owned(), None));
        return (200, "true".to_string());
    }
    if query.contains("recurse") {
        let visible = held.keys.iter().filter(|(name, _)| name.starts_with(key) && !held.hidden.contains(name));
        let list: Vec<Value> = visible.map(pair).collect();
        return if list.is_empty() { (404, String::new()) } else { (200, json!(list).to_string()) };
    }
    if held.hidden.iter().any(|hidden| hidden == key) {
        return (403, "Permission denied".to_string());
    }
    match held.keys.get_key_value(key) {
        Some(found) => (200, json!([pair(found)]).to_string()),
        None => (404, String::new()),
    }
}
