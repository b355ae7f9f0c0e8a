//! What is seen of a job while it runs: a bar in a terminal, else a line now and then.

use crate::session::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

/// A line at most this often where no terminal is.
const SAY: Duration = Duration::from_secs(2);

/// What is drawn.
pub(super) struct View<'a> {
    pub(super) state: &'a str,
    /// In the queue.
    pub(super) position: Option<u64>,
    /// Steps done, of how many in all.
    pub(super) step: u64,
    pub(super) steps: u64,
}

/// A bar in a terminal, else a line now and then.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    said: Cell<Option<Instant>>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} {elapsed}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, said: Cell::new(None) }
    }

    pub(super) fn show(&self, view: &View<'_>) {
        let words = match (view.state, view.position) {
            ("queued", Some(position)) => format!("queued #{position}"),
            (state, _) => terminal::printable_line(state),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(view.steps.max(1));
            bar.set_message(words);
            bar.set_position(view.step);
            return;
        }
        let due = self.said.get().is_none_or(|at| at.elapsed() >= SAY) || view.state == "done";
        if due {
            self.said.set(Some(Instant::now()));
            terminal::tell(&format!("{words} {}/{}", view.step, view.steps.max(1)));
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
            // What follows begins its own line.
            terminal::tell("");
        }
    }
}
