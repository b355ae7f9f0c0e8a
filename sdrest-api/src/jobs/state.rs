//! The states of a job and the only ways from one to the next. The store asks this table before it writes,
//! so a terminal state is never left and no result is recorded twice.

use sdrest_proto::bounds::quote;
use std::{fmt, str::FromStr};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// What may happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A dispatcher takes it for a worker, under a new attempt.
    Claim,
    /// Its worker or this process went away; it waits again.
    Requeue,
    /// All its pictures are recorded.
    Finish,
    /// It ended without pictures.
    Fail,
    /// Its owner gave it up.
    Cancel,
}

impl JobState {
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can happen to it any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// The state after `transition`, or `None` where it is not allowed from here.
    pub fn after(self, transition: Transition) -> Option<Self> {
        match (self, transition) {
            (Self::Queued, Transition::Claim) => Some(Self::Running),
            (Self::Running, Transition::Requeue) => Some(Self::Queued),
            (Self::Running, Transition::Finish) => Some(Self::Done),
            (Self::Running, Transition::Fail) => Some(Self::Failed),
            (Self::Queued | Self::Running, Transition::Cancel) => Some(Self::Cancelled),
            _ => None,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!(
                "`state` must be queued, running, done, failed or cancelled, got {}",
                quote(text)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_are_never_left() {
        let all = [
            Transition::Claim,
            Transition::Requeue,
            Transition::Finish,
            Transition::Fail,
            Transition::Cancel,
        ];
        for state in JobState::ALL {
            let exits = all.into_iter().filter(|t| state.after(*t).is_some()).count();
            assert_eq!(exits == 0, state.is_terminal(), "{state}");
            assert_eq!(state.as_str().parse::<JobState>().unwrap(), state);
        }
    }
}
