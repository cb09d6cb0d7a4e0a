//! The beacon's own `/metrics` and `/healthz`, over a small picture that the loop puts down.
//!
//! Read-only, by the same server and the same rules about who may ask as the daemon's pages.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::ACCEPT;

use crate::core::beacon::{Counts, State};
use crate::serve::access::{Access, Refusal};
use crate::serve::metrics::{self, Format, Kind};
use crate::serve::route::{self, Answer, Asked};
use crate::serve::server::{Site, measure};

/// What the loop saw last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Picture {
    /// Where it stands; `None` before the first turn.
    pub state: Option<State>,
    /// What was counted.
    pub counts: Counts,
}

/// The pages.
pub struct Page {
    /// Who may ask.
    pub access: Access,
    /// What is shown.
    pub picture: Arc<Mutex<Picture>>,
}

impl Site for Page {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        if let Some(refusal) = route::refused(asked, &self.access) {
            return refusal;
        }
        let picture = *self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let is_active = picture.state == Some(State::Active);
        match asked.uri.path() {
            "/healthz" if is_active => Answer::sentence(StatusCode::OK, "active"),
            "/healthz" => Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, "the session is not active"),
            "/metrics" => self.metrics(asked, picture).unwrap_or_else(Answer::from),
            _ => Answer::sentence(StatusCode::NOT_FOUND, "there are /metrics and /healthz"),
        }
    }
}

impl Page {
    fn metrics(&self, asked: Asked<'_>, picture: Picture) -> Result<Answer, Refusal> {
        self.access.judge_token(asked.headers)?;
        let accept = asked.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
        Ok(Answer::found(format.content_type(), render(picture, format)))
    }
}

fn render(picture: Picture, format: Format) -> String {
    let mut page = metrics::Page::new(format, 1_024);
    metrics::build(&mut page, env!("CARGO_PKG_VERSION"));
    if let Some(resident) = measure().resident {
        page.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process in bytes.");
        page.sample("process_resident_memory_bytes", "", &[], resident as f64);
    }
    let active = f64::from(u8::from(picture.state == Some(State::Active)));
    page.family("watchdog_beacon_session_active", Kind::Gauge, "1 while the key is held by a session renewed in time.");
    page.sample("watchdog_beacon_session_active", "", &[], active);
    let counts = picture.counts;
    for (name, help, count) in [
        ("watchdog_beacon_renewals", "Renewals that Consul confirmed.", counts.renewals),
        ("watchdog_beacon_failures", "Calls to Consul that failed.", counts.failures),
        ("watchdog_beacon_reconnects", "Times it became active again.", counts.reconnects),
    ] {
        page.family(name, Kind::Counter, help);
        page.sample(name, "_total", &[], count as f64);
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_written_as_agreed() {
        let counts = Counts { renewals: 7, failures: 2, reconnects: 1 };
        let page = render(Picture { state: Some(State::Active), counts }, Format::Text);
        for line in [
            concat!("watchdog_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# TYPE watchdog_beacon_session_active gauge",
            "watchdog_beacon_session_active 1",
            "# TYPE watchdog_beacon_renewals_total counter",
            "watchdog_beacon_renewals_total 7",
            "watchdog_beacon_failures_total 2",
            "watchdog_beacon_reconnects_total 1",
        ] {
            assert!(page.lines().any(|written| written == line), "{line}\n{page}");
        }
        let waiting = render(Picture { state: Some(State::Connecting), counts }, Format::OpenMetrics);
        assert!(waiting.contains("watchdog_beacon_session_active 0\n") && waiting.ends_with("# EOF\n"), "{waiting}");
    }
}
