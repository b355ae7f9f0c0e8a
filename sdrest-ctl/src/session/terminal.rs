//! What a prompt looks like in a terminal: hidden where it asks for a secret, and from standard input line by line
//! for scripts. What modules and servers say is printed without control characters.

use anyhow::{Context, Result, bail};
use sdrest_proto::secret::Answer;
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Terminal,
    /// `--password-stdin`, `--answers-stdin`: an answer a line.
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    On,
    Off,
}

/// Asks, and gives the answer without its line end.
pub(crate) fn ask(source: Source, text: &str, echo: Echo) -> Result<String> {
    if source == Source::Terminal && !stdin().is_terminal() {
        bail!(
            "`{}` must be answered, and there is no terminal; use --password-stdin or --answers-stdin",
            printable(text).trim()
        );
    }
    if source == Source::Terminal {
        write!(stderr(), "{}", printable(text))?;
        stderr().flush()?;
        if echo == Echo::Off {
            return rpassword::read_password().context("the answer cannot be read");
        }
    }
    let mut line = String::new();
    if stdin().lock().read_line(&mut line).context("the answer cannot be read")? == 0 {
        bail!("`{}` must be answered, and standard input has ended", printable(text).trim());
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A new password: typed twice, or one line of standard input.
pub(crate) fn new_password(source: Source, whose: &str) -> Result<Answer> {
    let first = Answer::new(ask(source, &format!("New password for {whose}: "), Echo::Off)?);
    if first.is_empty() || first.len() > Answer::MAX_BYTES {
        bail!("the password must have 1 to {} bytes, got {}", Answer::MAX_BYTES, first.len());
    }
    if source == Source::Terminal {
        let again = Answer::new(ask(source, "The same again: ", Echo::Off)?);
        if !first.matches(&again) {
            bail!("the two passwords are not the same; nothing was changed");
        }
    }
    Ok(first)
}

/// Shows a text that asks nothing, on standard error.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(stderr(), "{}", printable(text));
}

/// A line of the result, on standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(stdout(), "{}", printable(text));
}

/// Without what could move a terminal's cursor or colour it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect()
}

/// The same for a text that must stay on its line: nobody else writes a line of a table or of an error.
pub(crate) fn printable_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_is_printable() {
        let hostile = "a\x1b[2J\x07b\u{9b}31m\x7f\r\nc\td";
        assert_eq!(printable(hostile), "a[2Jb31m\nc\td");
        assert_eq!(printable_line(hostile), "a[2Jb31m c d");
    }
}
