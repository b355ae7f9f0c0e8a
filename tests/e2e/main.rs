//! The whole of sdrest from outside, as its users meet it: real programs, real libpam, the demo model on
//! libtorch, over a made-up /etc in a private mount namespace.

mod accounts;
mod administration;
mod bad_input;
mod damaged_models;
mod guides;
mod journey;
mod kills;
mod meaning;
mod modules;
mod processes;
mod sameness;
mod scoring;
mod systemd;

use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard};

/// Two cores carry one stack at a time; the order of tests does not matter.
static ONE_STACK: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_STACK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A small request for the demo model.
fn drawing(seed: u64, steps: u32) -> Value {
    json!({
        "prompt": "a red circle on a white background", "seed": seed, "steps": steps, "cfg_scale": 4.0,
        "sampler": "Euler", "width": 128, "height": 128,
    })
}
