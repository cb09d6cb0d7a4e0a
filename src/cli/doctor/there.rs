//! Who else the watchdog needs: Telegram, Consul, Oracle Cloud. Each is asked something that changes nothing.

use super::Finding;
use crate::client::consul;
use crate::client::oci::{Oci, settings};
use crate::client::telegram::{Chat, TelegramError};
use crate::clock::Clock;
use crate::config::Config;
use crate::nodes;
use crate::notifier::telegram as notifier;

/// What was told.
#[derive(Default)]
pub struct Told {
    /// What was found out.
    pub findings: Vec<Finding>,
    /// The date of an answer, as HTTP writes it.
    pub date: Option<String>,
}

impl From<Finding> for Told {
    fn from(finding: Finding) -> Told {
        Told { findings: vec![finding], date: None }
    }
}

const PART: &str = "telegram";
/// How to find the number of a chat. The token is named by the variable that holds it, and not shown.
const FIND: [&str; 2] = [
    "write the bot a message, or add it to the group and write one there; then, with the token in $TOKEN:",
    "curl -s \"https://api.telegram.org/bot$TOKEN/getUpdates\" | grep -o '\"chat\":{\"id\":[-0-9]*'",
];

/// Whose token it is, and whether the chat can be written to.
pub fn telegram(config: &Config, _: &Clock) -> Told {
    let (bot, chat) = match notifier::bot(config, config.root().timeout.0) {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Finding::off(PART, "not set up: alerts are printed here only")
                .so("make a bot with @BotFather in Telegram, and set telegram.bot_token and telegram.chat_id")
                .into();
        }
        Err(error) => return Finding::wrong(PART, error.to_string().trim().to_string()).into(),
    };
    let (me, date) = match bot.ask_me() {
        Ok(answered) => answered,
        Err(error) => {
            let finding = Finding::wrong(PART, format!("getMe: {error}"));
            return match error {
                TelegramError::Refused { code: 401 | 404, .. } => finding.so(
                    "the token is not a bot's: ask @BotFather for it (/mybots, API Token), and set telegram.bot_token",
                ),
                TelegramError::Http(_) => finding.so("is the way to the API open? with a proxy: telegram.proxy"),
                _ => finding,
            }
            .into();
        }
    };
    let Some(chat) = chat else {
        let finding = Finding::wrong(PART, format!("@{} answers, and telegram.chat_id is not set", me.username));
        return Told { findings: vec![FIND.into_iter().fold(finding, Finding::so)], date };
    };
    let finding = match bot.get_chat(&chat) {
        Ok(found) => {
            let title = if found.title.is_empty() { found.kind } else { format!("{} \"{}\"", found.kind, found.title) };
            Finding::fine(PART, format!("@{} answers, and chat {} is a {title}", me.username, shown(&chat)))
        }
        Err(error) => {
            let finding = Finding::wrong(PART, format!("@{} answers; chat {}: {error}", me.username, shown(&chat)));
            FIND.into_iter().fold(finding, Finding::so)
        }
    };
    Told { findings: vec![finding], date }
}

fn shown(chat: &Chat) -> String {
    chat.to_string()
}

/// Does Consul answer, and does it have a leader?
pub fn consul(config: &Config, _: &Clock) -> Told {
    const PART: &str = "consul";
    if !["consul", "beacon", "node"].into_iter().any(|key| config.is_set(key)) {
        return Finding::off(PART, "not set up").into();
    }
    let connected =
        consul::connect(config, config.root().timeout.0).and_then(|consul| Ok((consul, consul::prefix(config)?)));
    let (consul, prefix) = match connected {
        Ok(both) => both,
        Err(error) => return Finding::wrong(PART, error.to_string().trim().to_string()).into(),
    };
    match consul.leader() {
        Err(error) => {
            return Finding::wrong(PART, format!("{}: {error}", consul.address()))
                .so("consul.address, consul.token")
                .into();
        }
        Ok(None) => {
            return Finding::wrong(PART, format!("{} answers, and has no leader", consul.address()))
                .so("consul operator raft list-peers")
                .into();
        }
        Ok(Some(_)) => {}
    }
    let listing = consul.prefix(&prefix, None, None, false);
    let counted = listing.and_then(|listing| Ok((listing.filtered, listing.entries()?.len())));
    match counted {
        Err(error) => Finding::wrong(PART, format!("{prefix}: {error}"))
            .so(format!("give the token: key_prefix \"{prefix}\" {{ policy = \"read\" }}"))
            .into(),
        Ok((true, _)) => Finding::wrong(PART, format!("keys below {prefix} are hidden from this token"))
            .so(format!("give the token: key_prefix \"{prefix}\" {{ policy = \"read\" }}"))
            .into(),
        Ok((false, count)) => {
            Finding::fine(PART, format!("{} has a leader; {count} keys below {prefix}", consul.address())).into()
        }
    }
}

/// Does Oracle Cloud know the instances of the nodes?
pub fn oci(config: &Config, clock: &Clock) -> Told {
    const PART: &str = "oci";
    let switches = nodes::switches(config);
    let Some(first) = switches.iter().find(|switch| switch.executor == PART) else {
        return Finding::off(PART, "not set up: no node has executor = \"oci\"").into();
    };
    let access = settings::access(config, clock.clone(), config.root().timeout.0);
    let oci = match access
        .map_err(|error| error.to_string())
        .and_then(|access| Oci::new(access).map_err(|error| error.to_string()))
    {
        Ok(oci) => oci,
        Err(error) => return Finding::wrong(PART, error.trim().to_string()).into(),
    };
    match oci.instance(&first.instance_id) {
        Ok(_) => Finding::fine(PART, format!("the instance of node {} can be read", first.node)).into(),
        Err(error) => Finding::wrong(PART, format!("node {}: {error}", first.node))
            .so("check instance_id, the key in [oci], and the policy of the compartment")
            .into(),
    }
}
