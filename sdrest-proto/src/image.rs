//! A finished picture on its way from the worker to the front end: bare pixels, so that no image decoder
//! runs on what a worker says.

use serde::{Deserialize, Serialize};
use std::fmt;

/// 8-bit RGB, rows from the top, three bytes a pixel, no padding.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedImage")]
pub struct Rgb8Image {
    width: u32,
    height: u32,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct UncheckedImage {
    width: u32,
    height: u32,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

impl Rgb8Image {
    /// Pixels on a side at most.
    pub const MAX_SIDE: u32 = 4096;

    /// Fails where `data` is not `width × height × 3` bytes or a side is 0 or above [`Self::MAX_SIDE`].
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self, String> {
        let sides = 1..=Self::MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(format!(
                "an image side must be between 1 and {} pixels, got {width}×{height}",
                Self::MAX_SIDE
            ));
        }
        let expected = width as usize * height as usize * 3;
        if data.len() != expected {
            return Err(format!(
                "an image of {width}×{height} must have {expected} bytes, got {}",
                data.len()
            ));
        }
        Ok(Self { width, height, data })
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

impl TryFrom<UncheckedImage> for Rgb8Image {
    type Error = String;
    fn try_from(unchecked: UncheckedImage) -> Result<Self, String> {
        Self::new(unchecked.width, unchecked.height, unchecked.data)
    }
}

impl fmt::Debug for Rgb8Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rgb8Image({}×{})", self.width, self.height)
    }
}
