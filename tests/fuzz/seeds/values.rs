//! Names and values by themselves, in each form in which they are read.

use super::{Seed, authd, bytes_of, seed, worker};
use sdrest_proto::{identity::Role, image::Rgb8Image};
use serde::Serialize;

const NAMES: [&str; 8] = [
    "alice",
    "m.mueller-2",
    "Jörg Müller",
    "my laptop",
    "unix:1000:1",
    "oidc:https://id.example:alice",
    "operator",
    "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
];
const NUMBERS: [u64; 5] = [1, 8, 512, 2048, 9_007_199_254_740_983];

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let key = authd::key().expose("written into the corpus").as_bytes().to_vec();
    seeds.push(seed("api_key", "good", key));
    for (at, name) in NAMES.iter().enumerate() {
        seeds.push(seed("names", &format!("name-{at}"), name.as_bytes().to_vec()));
        in_both(&mut seeds, &format!("name-{at}"), name);
    }
    for number in NUMBERS {
        in_both(&mut seeds, &format!("number-{number}"), &number);
    }
    in_both(&mut seeds, "guidance", &7.5);
    in_both(&mut seeds, "role", &Role::Admin);
    in_both(&mut seeds, "new-key", &authd::new_key());
    in_both(&mut seeds, "claims", &authd::claims());
    in_both(&mut seeds, "generation", &worker::generation());
    let image = bytes_of(&Rgb8Image::new(4, 3, vec![0x80; 36]).unwrap());
    seeds.push(seed("values_bincode", "image", image));
    seeds
}

fn in_both(seeds: &mut Vec<Seed>, name: &str, value: &impl Serialize) {
    seeds.push(seed("values_json", name, serde_json::to_vec(value).unwrap()));
    seeds.push(seed("values_bincode", name, bytes_of(value)));
}
