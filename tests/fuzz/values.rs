//! The bounded values and names by themselves: as texts, as JSON and as bincode. Each bound is written here a second
//! time, in other words than in the type.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bincode::Options;
use sdrest_proto::{
    accounts::UserName,
    api_key::{KeyName, NewKey, Scopes},
    authd::{AuthMode, Claims},
    bounds::{
        ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps, Username,
    },
    generation::GenerationRequest,
    id::{JobId, KeyId},
    identity::{Permission, Role, Subject},
    image::Rgb8Image,
    secret::ApiKey,
    transport::AUTHD,
};
use serde::{Serialize, de::DeserializeOwned};

/// A key names an id only where it is byte for byte what its maker writes.
pub(crate) fn api_key(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Some(id) = ApiKey::new(text.to_owned()).id() else { return false };
    let bytes = URL_SAFE_NO_PAD.decode(&text[4..]).unwrap();
    let made = ApiKey::compose(id, bytes[16..40].try_into().unwrap());
    assert_eq!(made.expose("compared in a test"), text);
    true
}

/// Names as somebody types them.
pub(crate) fn names(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let plain = !text.contains(char::is_control);
    let mut taken = false;
    if let Ok(name) = UserName::try_from(text.to_owned()) {
        assert!(name.as_str() == text && plain && text.is_ascii() && text.len() <= 32);
        assert!(!text.starts_with(['-', '.']) && !text.contains(['/', ':', ' ']));
        taken = true;
    }
    if let Ok(name) = Username::try_from(text.to_owned()) {
        assert!(name.as_str() == text && plain && !text.is_empty() && text.len() <= 256);
        taken = true;
    }
    if let Ok(name) = KeyName::try_from(text.to_owned()) {
        assert!(name.as_str() == text && plain && !text.is_empty() && text.len() <= 256);
        taken = true;
    }
    if let Ok(name) = ModelName::try_from(text.to_owned()) {
        assert!(name.as_str() == text && plain && !text.contains('/') && !text.starts_with('.'));
        taken = true;
    }
    if let Ok(subject) = Subject::try_from(text.to_owned()) {
        assert!(subject.as_str() == text && plain && text.len() <= 512);
        taken = true;
    }
    if let Ok(prompt) = Prompt::try_from(text.to_owned()) {
        assert!(prompt.as_str() == text && !text.contains('\0') && text.len() <= 40_000);
        taken = true;
    }
    if let Ok(id) = text.parse::<JobId>() {
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        taken = true;
    }
    if let Ok(role) = text.parse::<Role>() {
        assert_eq!(role.as_str(), text);
    }
    if let Some(permission) = Permission::named(text) {
        assert_eq!(permission.as_str(), text);
    }
    let _ = text.parse::<AuthMode>();
    taken
}

/// Each of the types that has one form only: what is read and written and read again is the same.
macro_rules! any_of {
    ($read:ident($input:expr): $($type:ty),* $(,)?) => {
        [$($read::<$type>($input)),*].contains(&true)
    };
}

pub(crate) fn json(input: &[u8]) -> bool {
    bounded(|| serde_json::from_slice(input).ok(), || serde_json::from_slice(input).ok());
    any_of!(json_of(input): UserName, Username, KeyName, Subject, ModelName, Prompt, Scopes, Steps, Dimension,
        ImageCount, Seed, ClipSkip, GuidanceScale, KeyId, Role, NewKey, Claims, GenerationRequest)
}

fn json_of<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return false };
    let first = serde_json::to_vec(&value).unwrap();
    let again: T = serde_json::from_slice(&first).unwrap();
    assert_eq!(first, serde_json::to_vec(&again).unwrap(), "written again, it differs");
    true
}

pub(crate) fn bincode(input: &[u8]) -> bool {
    bounded(|| options().deserialize(input).ok(), || options().deserialize(input).ok());
    any_of!(bincode_of(input): UserName, Username, KeyName, Subject, ModelName, Prompt, Scopes, Steps, Dimension,
        ImageCount, Seed, ClipSkip, GuidanceScale, KeyId, Role, NewKey, Claims, GenerationRequest, Rgb8Image)
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(AUTHD.max_frame as u64)
}

fn bincode_of<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(value) = options().deserialize::<T>(input) else { return false };
    super::rpc::holds(&value, input.len());
    true
}

/// What can be checked from outside of requests and scopes, however they were read.
fn bounded(
    request: impl FnOnce() -> Option<GenerationRequest>,
    scopes: impl FnOnce() -> Option<Scopes>,
) {
    if let Some(request) = request() {
        for side in [request.width, request.height] {
            assert!((64..=2048).contains(&side.get()) && side.get() % 8 == 0, "{side}");
        }
        assert!((1..=150).contains(&request.num_inference_steps.get()));
        assert!((1..=8).contains(&request.num_images.get()));
        assert!((0.0..=30.0).contains(&request.guidance_scale.get()));
        assert!(request.seed.get() + 8 < 1 << 53);
        assert!(request.scheduler.takes(request.sigma_schedule));
    }
    if let Some(scopes) = scopes() {
        assert!(Scopes::NEVER.iter().all(|never| !scopes.contains(*never)));
    }
}
