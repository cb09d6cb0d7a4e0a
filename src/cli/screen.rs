//! How much room a terminal has, and text that keeps to it. What is piped elsewhere is not broken into lines.

use rustix::termios::tcgetwinsize;

use super::paint::Paint;

/// Narrower than this nothing is broken.
const LEAST: usize = 20;

/// The room on the screen.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Characters in a line.
    pub columns: usize,
    /// Lines; `None` where nobody looks on.
    pub rows: Option<usize>,
}

impl Screen {
    /// That of standard output; `COLUMNS` says otherwise.
    pub fn stdout() -> Screen {
        let size = Paint::is_terminal().then(|| tcgetwinsize(std::io::stdout()).ok()).flatten();
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
        let seen = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        let columns = told.or(seen).map_or(usize::MAX, |columns| columns.max(LEAST));
        Screen { columns, rows: size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 1) }
    }

    /// `text` in lines of at most `columns` characters, the later ones behind `indent` spaces; the first one has
    /// `taken` characters before it. Broken between words, and within a word that is too long for a line.
    pub fn wrap(self, text: &str, taken: usize, indent: usize) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut used = taken;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            let gap = usize::from(lines.last().is_some_and(|line| !line.trim().is_empty()));
            if used + gap + length <= self.columns {
                push(&mut lines, if gap == 1 { " " } else { "" });
                push(&mut lines, word);
                used += gap + length;
                continue;
            }
            if gap == 1 {
                lines.push(" ".repeat(indent));
                used = indent;
            }
            for c in word.chars() {
                if used >= self.columns {
                    lines.push(" ".repeat(indent));
                    used = indent;
                }
                push(&mut lines, c.encode_utf8(&mut [0; 4]));
                used += 1;
            }
        }
        lines
    }

    /// `text` in one line, cut where it is too long.
    pub fn cut(self, text: &str) -> String {
        if text.chars().count() <= self.columns {
            return text.to_string();
        }
        let mut cut: String = text.chars().take(self.columns.saturating_sub(1)).collect();
        cut.push('…');
        cut
    }

    /// The lines that fit, the first ones, with one that says how many were left out.
    pub fn top(self, mut lines: Vec<String>) -> Vec<String> {
        let Some(room) = self.rows.map(|rows| rows - 1) else { return lines };
        if lines.len() > room {
            let left_out = lines.len() - room.saturating_sub(1);
            lines.truncate(room.saturating_sub(1));
            lines.push(self.cut(&format!("… {left_out} more lines; without --watch all of them are shown")));
        }
        lines
    }
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn screen(columns: usize) -> Screen {
        Screen { columns, rows: None }
    }

    #[test]
    fn text_is_broken_between_words_and_within_one_that_is_too_long() {
        let wrapped = screen(20).wrap("exit code 137 (out of memory)", 9, 9);
        assert_eq!(wrapped, ["exit code", "         137 (out of", "         memory)"]);
        let long = screen(20).wrap("see https://example.org/a/very/long/path", 0, 2);
        assert_eq!(long, ["see", "  https://example.or", "  g/a/very/long/path"]);
        assert_eq!(screen(usize::MAX).wrap("a  b", 0, 4), ["a b"]);
        assert_eq!(screen(20).wrap("", 0, 4), [""]);
    }

    #[test]
    fn the_top_stays_and_says_what_is_left_out() {
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let top = Screen { columns: 80, rows: Some(24) }.top(lines.clone());
        assert_eq!(
            (top.len(), top[0].as_str(), top[22].as_str()),
            (23, "0", "… 8 more lines; without --watch all of them are shown")
        );
        assert_eq!(screen(80).top(lines.clone()), lines);
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_screen_and_no_word_is_lost(
            text in "[a-z ]{0,200}", columns in 20usize..100, taken in 0usize..20, indent in 0usize..10,
        ) {
            let lines = screen(columns).wrap(&text, taken, indent);
            for (at, line) in lines.iter().enumerate() {
                let before = if at == 0 { taken } else { 0 };
                prop_assert!(before + line.chars().count() <= columns, "{line:?}");
            }
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
