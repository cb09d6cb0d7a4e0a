//! What users write about one signal for whoever is woken by it: a note, instructions, how often to be reminded.
//!
//! The keys are declared where the signal is (`[[probe]]`, `[[app.rule]]`); what may stand in them is said here once.

use super::form;
use super::value::Span;
use crate::core::about::About;

/// Characters of a note at most: it stands in one line of a message.
const NOTE: usize = 300;

/// `about` with what the user wrote; empty texts say nothing.
///
/// # Errors
/// The key that is wrong, and what is right.
pub fn wrote(about: About, note: &str, runbook: &str, cooldown: Option<Span>) -> Result<About, (&'static str, String)> {
    let (note, runbook) = (note.trim(), runbook.trim());
    if note.chars().count() > NOTE {
        return Err(("note", format!("is longer than {NOTE} characters; put the rest where `runbook` leads")));
    }
    if !runbook.is_empty() {
        link(runbook).map_err(|what| ("runbook", what))?;
    }
    Ok(About { note: note.into(), runbook: runbook.into(), cooldown: cooldown.map(|span| span.0), ..about })
}

/// A URL that a person opens: unlike one that is fetched, it may have a fragment.
fn link(text: &str) -> Result<(), String> {
    form::url(text.split('#').next().unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_runbook_is_a_link_that_a_person_can_open_and_a_note_fits_a_line() {
        let wrote = |note: &str, runbook: &str| wrote(About::default(), note, runbook, None);
        for right in ["", "https://wiki.example/db#failover", "http://wiki/x?page=1"] {
            assert_eq!(&*wrote("", right).unwrap().runbook, right);
        }
        for bad in ["wiki/db", "ftp://wiki/db", "https://", "https://wiki/a b", "https://me:secret@wiki/"] {
            let (key, what) = wrote("", bad).unwrap_err();
            assert!(key == "runbook" && !what.contains("secret"), "{bad}: {what}");
        }
        assert_eq!(&*wrote("  call the hoster ", "").unwrap().note, "call the hoster");
        assert_eq!(wrote(&"x".repeat(301), "").unwrap_err().0, "note");
        assert!(wrote(&"x".repeat(300), "").is_ok());
        let once = super::wrote(About::default(), "", "", Some(Span(Duration::ZERO))).unwrap();
        assert_eq!(once.cooldown, Some(Duration::ZERO));
    }
}
