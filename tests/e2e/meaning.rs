//! What is drawn is what was asked for: forty prompts through the whole server, judged by measuring
//! (tests/demo_model/SCORING.md). The bars lie a margin below what the shipped model reaches on 200 prompts.

use crate::{
    alone,
    scoring::{Finding, Picture, Region, radius},
};
use anyhow::{Context, Result, ensure};
use harness::{Stack, programs};
use serde_json::{Value, json};
use std::{fs, time::Duration};

fn decode(png: &[u8]) -> Result<Picture> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().context("a picture too large")?];
    let info = reader.next_frame(&mut bytes)?;
    ensure!(
        info.width == info.height && info.color_type == png::ColorType::Rgb,
        "not a square RGB picture"
    );
    let pixels = bytes[..info.buffer_size()].chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
    Ok(Picture { side: info.width as usize, pixels })
}

/// Hits and tries of one quality.
#[derive(Default)]
struct Share {
    hits: u32,
    tries: u32,
}

impl Share {
    fn count(&mut self, hit: bool) {
        self.tries += 1;
        self.hits += u32::from(hit);
    }

    fn is_at_least(&self, what: &str, bar: f64) -> Result<()> {
        let share = f64::from(self.hits) / f64::from(self.tries.max(1));
        println!(
            "{what}: {} of {} ({:.1} %, bar {:.0} %)",
            self.hits,
            self.tries,
            share * 100.0,
            bar * 100.0
        );
        ensure!(
            self.tries > 0 && share >= bar,
            "{what}: {} of {} is under {bar}",
            self.hits,
            self.tries
        );
        Ok(())
    }
}

fn is(item: &Value, finding: &Finding) -> (bool, bool) {
    (finding.colour == item["colour"].as_str(), finding.shape == item["shape"].as_str())
}

/// The halves for the first and the second item.
fn halves(picture: &Picture, relation: &str) -> [Region; 2] {
    let (whole, middle) = (picture.whole(), picture.side / 2);
    match relation {
        "above" => [Region { bottom: middle, ..whole }, Region { top: middle, ..whole }],
        "below" => [Region { top: middle, ..whole }, Region { bottom: middle, ..whole }],
        _ => [Region { right: middle, ..whole }, Region { left: middle, ..whole }],
    }
}

fn is_at(place: &str, (x, y): (f64, f64)) -> bool {
    let low = |word| place.split(' ').any(|part| part == word);
    let axis = |first, last| {
        if low(first) {
            0.27
        } else if low(last) {
            0.73
        } else {
            0.5
        }
    };
    (x - axis("left", "right")).abs() < 0.12 && (y - axis("top", "bottom")).abs() < 0.12
}

#[derive(Default)]
struct Tally {
    background: Share,
    colour: Share,
    shape: Share,
    place: Share,
    size: Share,
    pair: Share,
}

impl Tally {
    fn judge(&mut self, scene: &Value, picture: &Picture) {
        let items = scene["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = picture.examine(picture.whole());
        let background = Some(found.background) == scene["background"].as_str();
        self.background.count(background);
        if let [item] = items {
            let (colour, shape) = is(item, &found);
            self.colour.count(colour);
            self.shape.count(shape);
            if let Some(place) = scene["place"].as_str() {
                self.place.count(is_at(place, found.centre));
            }
            let radius = radius(item["shape"].as_str().unwrap_or_default(), found.half_side);
            match scene["size"].as_str() {
                Some("small") => self.size.count(radius < 0.175),
                Some("large") => self.size.count(radius > 0.315),
                _ => {}
            }
        } else if let [first, second] = items {
            let [a, b] = halves(picture, scene["relation"].as_str().unwrap_or_default());
            let right = is(first, &picture.examine(a)) == (true, true)
                && is(second, &picture.examine(b)) == (true, true);
            self.pair.count(background && right);
        }
    }
}

#[test]
fn pictures_show_what_their_prompts_say() -> Result<()> {
    let _alone = alone();
    let text = fs::read_to_string(programs::checkout().join("tests/demo_model/prompts.json"))?;
    let scenes: Vec<Value> = serde_json::from_str(&text)?;
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let mut tally = Tally::default();
    let ids = scenes
        .iter()
        .enumerate()
        .map(|(seed, scene)| {
            api.submit(&json!({
                "prompt": scene["prompt"], "seed": seed, "steps": 20, "cfg_scale": 4.0, "sampler": "DDIM",
                "width": 128, "height": 128,
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    for (scene, id) in scenes.iter().zip(&ids) {
        let job = api.wait(id, Duration::from_secs(300))?;
        tally.judge(scene, &decode(&api.picture(&job, 0)?)?);
    }
    tally.background.is_at_least("background", 0.97)?;
    tally.colour.is_at_least("colour", 0.95)?;
    tally.place.is_at_least("place", 0.95)?;
    tally.size.is_at_least("size", 0.85)?;
    tally.shape.is_at_least("shape", 0.92)?;
    tally.pair.is_at_least("two items wholly right", 0.80)?;
    stack.stop()?;
    Ok(())
}

#[test]
fn the_first_picture_is_a_red_circle_for_every_seed() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    for seed in 0..5 {
        let job = api.wait(&api.submit(&crate::drawing(seed, 20))?, Duration::from_secs(60))?;
        let picture = decode(&api.picture(&job, 0)?)?;
        let found = picture.examine(picture.whole());
        let said = (found.background, found.colour, found.shape);
        ensure!(said == ("white", Some("red"), Some("circle")), "seed {seed}: {found:?}");
    }
    stack.stop()?;
    Ok(())
}
