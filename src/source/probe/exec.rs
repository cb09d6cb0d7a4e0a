//! exec: runs a command; exit code 0 is well, any other is not.
//!
//! No shell unless asked for. The command runs in a process group of its own, without standard input,
//! without our settings in its environment, and its group is killed when the check ends, however it
//! ends: at the limit, after too much output, or in good order with children left behind. The command
//! is always reaped. A descendant that leaves the group (`setsid`) outlives the check, as a server that a
//! command starts on purpose does, and is killed when the program ends or the probe goes away
//! (`adr/0028-no-process-is-left-behind.md`).

use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::time::Timespec;

use super::advice::Trouble;
use super::excerpt;
use super::pool::Verdict;
pub use crate::client::children::Groups;
use crate::client::shortage;
use crate::core::time::people;

/// Bytes at the end of the output that are kept for the fact.
const TAIL: usize = 4096;
/// Bytes of output after which the command is killed.
const OUTPUT: usize = 1024 * 1024;
/// How often the command is asked for where the kernel cannot tell of its end.
const STEP: Duration = Duration::from_millis(20);
/// Variables of ours beside `WATCHDOG_*` that may hold a secret.
const OURS: &[&str] = &["CONSUL_HTTP_TOKEN"];

/// One exec check.
pub struct ExecCheck {
    /// Program and arguments, not empty.
    pub command: Vec<String>,
    /// Limit of one run.
    pub limit: Duration,
    /// The running groups of all exec checks.
    pub groups: Groups,
}

impl ExecCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let begun = Instant::now();
        let Some((program, arguments)) = self.command.split_first() else {
            return Verdict::unknown("no command");
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WATCHDOG_") || OURS.contains(&text.as_ref()) {
                command.env_remove(&name);
            }
        }
        let output = match attach(&mut command) {
            Ok(output) => output,
            Err(error) => return Verdict::unknown(format!("cannot make a pipe: {}", shortage::words(&error))),
        };
        let started = self.groups.start(&mut command);
        // Our copies of the writing end go away here: only the command holds it now.
        drop(command);
        let (mut child, leader) = match started {
            Ok(started) => started,
            Err(error) => {
                let why = shortage::seen_starting(&error).map_or_else(|| error.to_string(), |lack| lack.to_string());
                return self.not_started(&why);
            }
        };
        let mut run = Run { output: Some(output), tail: Vec::new(), total: 0 };
        let end = run.watch(leader, begun + self.limit);
        let status = self.groups.end(&mut child, leader);
        if self.groups.is_closed() {
            // Killed by us: that says nothing about what was checked.
            return Verdict::unknown("the check was cut short: the program is ending or was told to reload");
        }
        run.drain();
        self.judge(end, status, &run, begun.elapsed())
    }

    /// The verdict on a command that could not be started.
    pub fn not_started(&self, why: &str) -> Verdict {
        let fact = format!("cannot start the command: {why}");
        Verdict::unknown(fact).because(Trouble::NotRunnable(self.program()))
    }

    /// The program's own name: arguments may hold secrets.
    fn program(&self) -> &str {
        let word = match self.command.as_slice() {
            [shell, flag, line] if shell == "sh" && flag == "-c" => line.split_whitespace().next(),
            [program, ..] => Some(program.as_str()),
            [] => None,
        };
        word.unwrap_or("the command")
    }

    fn judge(&self, end: End, status: io::Result<ExitStatus>, run: &Run, took: Duration) -> Verdict {
        match (end, status) {
            (End::Late, _) => self.ended(Ended::Late, &run.tail, took),
            (End::Loud, _) => self.ended(Ended::Loud, &run.tail, took),
            (End::Own, Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => self.ended(Ended::Code(code), &run.tail, took),
                (None, Some(signal)) => self.ended(Ended::Signal(signal), &run.tail, took),
                (None, None) => Verdict::unknown("ended, nobody knows how"),
            },
            (End::Own, Err(error)) => Verdict::unknown(format!("ended, but its exit code is lost: {error}")),
        }
    }

    /// The verdict on a command that ended like this; `tail` is the end of what it wrote.
    pub fn ended(&self, how: Ended, tail: &[u8], took: Duration) -> Verdict {
        let (before, last) = last_lines(tail);
        let said = if last.is_empty() { String::new() } else { format!(": {}", excerpt(last)) };
        let program = self.program();
        let (fact, trouble) = match how {
            Ended::Code(0) => return Verdict::up(format!("exit code 0 in {}{said}", people(took))),
            Ended::Code(code) => {
                (format!("exit code {code}{}{said}", code_words(code)), Trouble::Exit { code, program })
            }
            Ended::Signal(signal) => (
                format!("ended by signal {signal}{}{said}", signal_words(signal)),
                Trouble::Signalled { signal, program },
            ),
            Ended::Late => (format!("killed after {}{said}", people(self.limit)), Trouble::Endless(program)),
            Ended::Loud => (format!("killed after {OUTPUT} bytes of output{said}"), Trouble::Loud(program)),
        };
        let line = if before.is_empty() { String::new() } else { format!("output before: \"{}\"", excerpt(before)) };
        Verdict::down(fact).with(trouble.details().with(line))
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed at its limit.
    Late,
    /// Killed for too much output.
    Loud,
}

/// What an exit code that shells give means.
fn code_words(code: i32) -> &'static str {
    match code {
        124 => " (timeout)",
        126 => " (a program cannot be executed)",
        127 => " (a program was not found)",
        134 => " (SIGABRT)",
        137 => " (SIGKILL)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        _ => "",
    }
}

fn signal_words(signal: i32) -> &'static str {
    match signal {
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// The last two lines that are not blank, in their order.
fn last_lines(tail: &[u8]) -> (&[u8], &[u8]) {
    let mut lines = tail.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).rev();
    let last = lines.next().unwrap_or_default();
    (lines.next().unwrap_or_default(), last)
}

/// Gives the command one pipe for both of its outputs.
fn attach(command: &mut Command) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    Ok(reader)
}

/// How a run came to its end.
enum End {
    /// The command ended by itself.
    Own,
    /// The limit passed.
    Late,
    /// Too much output.
    Loud,
}

/// One run of a command: its output as far as it was read.
struct Run {
    /// `None` once the output has ended.
    output: Option<PipeReader>,
    tail: Vec<u8>,
    total: usize,
}

impl Run {
    /// Waits for the end of the command and reads what it says meanwhile.
    fn watch(&mut self, leader: Pid, deadline: Instant) -> End {
        // Kernels and sandboxes without pidfd: ask now and then.
        let ending = pidfd_open(leader, PidfdFlags::empty()).ok();
        loop {
            if is_over(leader) {
                return End::Own;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::Late;
            }
            let wait = if ending.is_some() { left } else { left.min(STEP) };
            if self.poll(ending.as_ref(), wait) {
                self.read();
            }
            if self.total > OUTPUT {
                return End::Loud;
            }
        }
    }

    /// Waits for output or the end; true when there is something to read.
    fn poll(&self, ending: Option<&OwnedFd>, wait: Duration) -> bool {
        let mut fds = Vec::with_capacity(2);
        if let Some(output) = &self.output {
            fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
        }
        if let Some(ending) = ending {
            fds.push(PollFd::from_borrowed_fd(ending.as_fd(), PollFlags::IN));
        }
        let limit =
            Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        // An interrupted poll is one that found nothing.
        let found = poll(&mut fds, Some(&limit)).unwrap_or(0);
        found > 0 && self.output.is_some() && fds.first().is_some_and(|fd| !fd.revents().is_empty())
    }

    fn read(&mut self) {
        let Some(output) = &mut self.output else { return };
        let mut piece = [0; TAIL];
        match output.read(&mut piece) {
            Ok(0) => self.output = None,
            Ok(count) => {
                self.total = self.total.saturating_add(count);
                self.tail.extend_from_slice(piece.get(..count).unwrap_or_default());
                let surplus = self.tail.len().saturating_sub(TAIL);
                self.tail.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.output = None,
        }
    }

    /// Reads what was left in the pipe when the command ended; at most what a pipe holds.
    fn drain(&mut self) {
        for _ in 0..32 {
            if !self.poll(None, Duration::ZERO) {
                return;
            }
            self.read();
        }
    }
}

/// True when the command has ended; leaves it to be reaped.
fn is_over(leader: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(leader), options), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signal::Reading;

    fn run(limit: Duration, command: &[&str]) -> Verdict {
        let command = command.iter().map(ToString::to_string).collect();
        ExecCheck { command, limit, groups: Groups::default() }.look()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_exit_code_is_the_verdict_and_the_last_line_the_fact() {
        let verdict = run(LONG, &["sh", "-c", "echo first; echo all is well; echo"]);
        assert_eq!(verdict.reading, Reading::Up);
        assert!(verdict.fact.ends_with(": all is well"), "{}", verdict.fact);
        let verdict = run(LONG, &["sh", "-c", "echo full: /; echo disk full >&2; exit 3"]);
        assert_eq!((verdict.reading, verdict.fact.as_ref()), (Reading::Down, "exit code 3: disk full"));
        assert_eq!(verdict.details.unwrap().evidence, ["output before: \"full: /\""]);
        assert_eq!(run(LONG, &["sh", "-c", "kill -SEGV $$"]).fact, "ended by signal 11 (SIGSEGV)");
        assert_eq!(run(LONG, &["/nonexistent/check"]).reading, Reading::Unknown);
        assert_eq!(run(LONG, &[]).reading, Reading::Unknown);
    }

    #[test]
    fn no_shell_reads_the_arguments_and_there_is_no_standard_input() {
        let verdict = run(LONG, &["echo", "$HOME; rm", "*"]);
        assert!(verdict.fact.ends_with(": $HOME; rm *"), "{}", verdict.fact);
        assert_eq!(run(LONG, &["cat"]).reading, Reading::Up);
    }

    #[test]
    fn output_is_bounded_and_escaped() {
        let verdict = run(LONG, &["yes"]);
        assert!(verdict.fact.starts_with("killed after 1048576 bytes"), "{}", verdict.fact);
        let verdict = run(LONG, &["printf", "\\033[31mred\\377"]);
        assert!(verdict.fact.contains("\\u{1b}[31mred"), "{}", verdict.fact);
        let verdict = run(LONG, &["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' a; exit 1"]);
        assert!(verdict.fact.len() < 300, "{}", verdict.fact.len());
    }

    #[test]
    fn a_child_left_behind_does_not_hold_up_the_verdict() {
        let begun = Instant::now();
        let verdict = run(LONG, &["sh", "-c", "sleep 300 & exit 0"]);
        assert_eq!(verdict.reading, Reading::Up);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_closed_set_of_groups_starts_nothing() {
        let groups = Groups::default();
        groups.close();
        let check = ExecCheck { command: vec!["true".to_string()], limit: LONG, groups };
        assert!(check.look().fact.contains("ending"));
    }
}
