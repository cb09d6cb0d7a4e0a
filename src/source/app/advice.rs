//! What happened to the application, or to a value that it reports, and what to do next: the one table of this source
//! (`adr/0035-advice-belongs-to-the-verdict.md`).

use super::settings::RuleSettings;
use crate::client::http::HttpError;
use crate::client::resolve::ResolveError;
use crate::core::about::Details;
use crate::core::reach::{self, Peer};
use crate::core::rule::Test;

/// Characters of a URL in a command.
const URL: usize = 200;

/// The URL as it may stand in a command: without its query.
pub fn shown(url: &str) -> String {
    let plain: String = url.split(['?', '#']).next().unwrap_or_default().chars().take(URL).collect();
    plain.replace('\'', "%27")
}

/// It answers with a status that is not OK. `url` is as [`shown`].
pub fn status(status: u16, url: &str) -> Details {
    let advice = match status {
        300..=399 => format!("curl -sI '{url}'; then set app.metrics_url to where it leads"),
        401 | 403 => format!("check app.authorization: curl -i '{url}'"),
        404 => format!("is the path right? curl -i '{url}'; correct app.metrics_url"),
        429 => "it is asked too often: raise `tick`, or the limit of the application".to_string(),
        502..=504 => {
            format!("the proxy in front of it gets no answer: curl -i '{url}'; read the log of the application")
        }
        _ => format!("read its log; curl -i '{url}'"),
    };
    Details::new(format!("answers HTTP {status}"), advice)
}

/// It gives no answer.
pub fn failed(error: &HttpError, peer: Peer<'_>, url: &str) -> Details {
    let inside = format!("docker compose exec {} wget -qO- '{url}'", peer.host);
    let look = if reach::is_single(peer.host) { inside } else { format!("curl -m 30 -i '{url}'") };
    match error {
        HttpError::Refused(_) => Details::new("refuses connections", reach::refused(peer)),
        HttpError::Resolve(ResolveError::NotFound { name, .. } | ResolveError::Alone { name, .. }) => {
            Details::new("does not resolve", reach::no_name(name))
        }
        HttpError::Timeout(..) if error.is_unsent() => Details::new("does not answer", reach::silent(peer)),
        HttpError::Unreached(_) => Details::new("does not answer", reach::silent(peer)),
        HttpError::Timeout(..) => {
            Details::new("does not answer in time", format!("is it stuck? read its log; from inside: {look}"))
        }
        _ => Details::new("breaks off its answers", format!("read its log; {look}")),
    }
}

/// It could not be asked, which says nothing about it.
pub fn unseen(error: &HttpError, url: &str) -> Details {
    let advice = match error {
        HttpError::Resolve(_) => "is DNS working on this host? cat /etc/resolv.conf".to_string(),
        HttpError::Tls(_) => "set app.ca_file or app.tls_fingerprint, or renew the certificate".to_string(),
        HttpError::Proxy(_) => "is the proxy running? check app.proxy, HTTP_PROXY and NO_PROXY".to_string(),
        _ => format!("curl -i '{url}'"),
    };
    Details::new("cannot be checked", advice)
}

/// Its answer cannot be read, or says nothing new.
pub fn blind(why: &str, url: &str) -> Details {
    if why.starts_with("stale") {
        let advice = format!("is whatever writes it running? curl -s '{url}' | jq .generated_at");
        return Details::new("repeats an old answer", advice);
    }
    Details::new("cannot be read", format!("curl -s '{url}' | head -c 400; check app.metrics_url and app.format"))
}

/// What is always said of a rule when it fires.
pub fn rule(rule: &RuleSettings, test: Test, url: &str) -> Details {
    let look = look(rule, url);
    match test {
        Test::Above { .. } => Details::new("is too high", look),
        Test::Below { .. } => Details::new("is too low", look),
        Test::Increases { .. } => Details::new("has increased", format!("read the log of what it counts; {look}")),
        Test::Stalls => {
            Details::new("stands still", format!("is its worker stuck? read its log, or restart it; {look}"))
        }
        Test::Absent => Details::new("is not reported", look),
        Test::Verdict | Test::Event => Details::default(),
    }
}

/// The command that shows the value.
fn look(rule: &RuleSettings, url: &str) -> String {
    if !rule.value.starts_with('/') && rule.each.is_none() {
        let name = rule.value.split('{').next().unwrap_or_default();
        return format!("curl -s '{url}' | grep '^{name}'");
    }
    let pointer = rule.each.as_deref().unwrap_or(&rule.value);
    let parts: Vec<String> = pointer.split('/').skip(1).map(part).collect();
    format!("curl -s '{url}' | jq '.{}'", parts.join(""))
}

/// One part of a JSON pointer, as jq writes it.
fn part(text: &str) -> String {
    let text = text.replace("~1", "/").replace("~0", "~").replace('\'', "");
    match text.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!("[\"{}\"]", text.replace('"', "\\\"")),
    }
}

/// When a threshold fires, in words: `alert above 5`; empty for what is no threshold.
pub fn limit(when: &str) -> String {
    let when = when.trim();
    let number = |sign: &str| when.strip_prefix(sign).map(str::trim).filter(|rest| !rest.is_empty());
    match (number(">="), number("<="), number(">"), number("<")) {
        (Some(limit), ..) => format!("alert at {limit} or more"),
        (_, Some(limit), ..) => format!("alert at {limit} or less"),
        (_, _, Some(limit), _) => format!("alert above {limit}"),
        (.., Some(limit)) => format!("alert below {limit}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_said_in_words() {
        for (when, words) in [
            ("> 5", "alert above 5"),
            (">= 5", "alert at 5 or more"),
            ("<0.5", "alert below 0.5"),
            (" <= 1", "alert at 1 or less"),
            ("increases", ""),
            ("stalls", ""),
        ] {
            assert_eq!(limit(when), words, "{when}");
        }
    }

    #[test]
    fn a_command_shows_the_value_and_holds_no_query() {
        let url = shown("http://app:8080/metrics?token=secret");
        let look = |value: &str, each: Option<&str>| {
            let rule = RuleSettings { value: value.into(), each: each.map(str::to_string), ..RuleSettings::default() };
            look(&rule, &url)
        };
        assert_eq!(look("jobs_failed{queue=\"a\"}", None), "curl -s 'http://app:8080/metrics' | grep '^jobs_failed'");
        assert_eq!(look("/queue/0/a~1b", None), "curl -s 'http://app:8080/metrics' | jq '.[\"queue\"][0][\"a/b\"]'");
        assert_eq!(look("ticks", Some("/agents")), "curl -s 'http://app:8080/metrics' | jq '.[\"agents\"]'");
    }
}
