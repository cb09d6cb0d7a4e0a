//! `watchdog notify test`: a test message through every channel, and what each answered.

use std::process::ExitCode;

use clap::Subcommand;

use super::out::say;
use crate::assemble;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::message::{Message, Piece, Sound, Style};
use crate::notifier::{Notifier, Part};

/// What to do with the channels.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a test message through every channel and report each answer
    Test,
}

/// 0 when every channel accepted it, 1 otherwise.
pub fn test(config: &Config) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    let message = message(&config.root().instance, &clock.now().wall.to_string());
    let mut all_accepted = true;
    let mut remote = false;
    for mut notifier in assemble::notifiers(config, &clock, &assemble::Remembered::new())? {
        let name = notifier.name().to_string();
        remote |= name != "console";
        match send(notifier.as_mut(), &message) {
            Ok(()) => say!("{name}: accepted"),
            Err(what) => {
                all_accepted = false;
                // What the daemon's courier would say; here nobody tries again.
                let what = what.strip_prefix(&format!("{name}: ")).unwrap_or(&what);
                say!("{name}: {}", what.strip_suffix("; trying again").unwrap_or(what));
            }
        }
    }
    if !remote {
        say!("Only the console is set up. Set telegram.bot_token and telegram.chat_id to get alerts by Telegram.");
    }
    Ok(ExitCode::from(u8::from(!all_accepted)))
}

fn send(notifier: &mut dyn Notifier, message: &Message) -> Result<(), String> {
    for text in notifier.render(message) {
        let part = Part { text: &text, reply_to: None, sound: Sound::Loud };
        notifier.send(&part).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn message(instance: &str, at: &str) -> Message {
    let piece = |text: &str, style| Piece { text: text.to_string(), style };
    Message {
        lines: vec![
            vec![piece(instance, Style::Bold), piece(": this is a test message", Style::Plain)],
            vec![piece("Alerts arrive here. Sent at ", Style::Plain), piece(at, Style::Code)],
        ],
        incidents: Vec::new(),
        reply_to: None,
        sound: Sound::Loud,
    }
}
