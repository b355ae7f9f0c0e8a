//! What a PAM prompt looks like in a terminal: hidden where PAM says so, and from standard input line by line
//! for scripts. Texts of modules are printed without control characters.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Terminal,
    /// `--password-stdin`: an answer a line.
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    On,
    Off,
}

/// Asks, and gives the answer without its line end.
pub(super) fn ask(source: Source, text: &str, echo: Echo) -> Result<String> {
    if source == Source::Terminal && !stdin().is_terminal() {
        bail!(
            "`{}` must be answered, and there is no terminal; use --password-stdin",
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

/// Shows a text that asks nothing, on standard error.
pub(super) fn tell(text: &str) {
    let _ = writeln!(stderr(), "{}", printable(text));
}

/// A line of the result, on standard output.
pub(super) fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect()
}
