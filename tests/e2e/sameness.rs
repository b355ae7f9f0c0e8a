//! The same request gives the same PNG bytes: alone, beside seven others, and twice in a row.

use crate::{alone, drawing};
use anyhow::{Result, ensure};
use harness::{Stack, etc::ALICE};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn alone_and_beside_seven_others() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    let api = stack.api().login(ALICE.name, ALICE.password)?;
    for sampler in ["Euler a", "DPM++ 2M"] {
        let mut request = drawing(7, 12);
        request["sampler"] = json!(sampler);
        let first = api.picture(&api.wait(&api.submit(&request)?, PATIENCE)?, 0)?;
        // The others differ in everything that could leak from slot to slot.
        let mut ids = Vec::new();
        for other in 0..8_u64 {
            let neighbour = ["Euler a", "Euler", "DDIM", "DPM++ 2M"][other as usize % 4];
            let body = if other == 3 {
                request.clone()
            } else {
                json!({
                    "prompt": "a small blue square", "seed": 100 + other, "steps": 8 + other, "batch_count": 1 + other % 3,
                    "sampler": neighbour, "width": 128, "height": 192,
                    "cfg_scale": if other % 2 == 0 { 1.0 } else { 6.0 },
                })
            };
            ids.push(api.submit(&body)?);
        }
        for (index, id) in ids.iter().enumerate() {
            let job = api.wait(id, PATIENCE)?;
            let picture = api.picture(&job, 0)?;
            if index == 3 {
                ensure!(picture == first, "{sampler}: other bytes beside seven others");
            }
        }
        let again = api.picture(&api.wait(&api.submit(&request)?, PATIENCE)?, 0)?;
        ensure!(again == first, "{sampler}: other bytes the second time");
    }
    stack.stop()?;
    Ok(())
}

#[test]
fn image_n_of_a_batch_is_seeded_seed_plus_n() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let mut request = drawing(41, 4);
    request["batch_count"] = json!(3);
    let batch = api.wait(&api.submit(&request)?, PATIENCE)?;
    let seeds: Vec<_> = (0..3).map(|index| batch.body["images"][index]["seed"].clone()).collect();
    ensure!(seeds == [json!(41), json!(42), json!(43)], "{seeds:?}");
    stack.stop()?;
    Ok(())
}
