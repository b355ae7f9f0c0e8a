//! One line on standard error for each thing worth knowing. Never a secret, a prompt, or a name that was typed
//! (people type passwords into the wrong field).

use std::io::Write;

/// Writes a line; a log that is gone does not stop a login.
pub(crate) fn line(text: &str) {
    let mut whole = String::with_capacity(text.len() + 24);
    whole.push_str("sdrest-conversation: ");
    whole.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    whole.push('\n');
    let _ = std::io::stderr().write_all(whole.as_bytes());
}
