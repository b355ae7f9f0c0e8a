//! Steps 5 and 7 of diffusers' pipelines, as far as they draw noise: `prepare_latents`, and what `step`
//! draws in an ancestral scheduler. One CPU generator per image, seeded `seed + index`, gives its initial
//! latents first and then the noise of each step that takes some; all of it is drawn when the request is
//! admitted. libtorch has one global generator here: this is the only file that may touch it, under its lock.

use crate::models::ModelError;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Held from a seed to the last number drawn from it.
static GENERATOR: Mutex<()> = Mutex::new(());

/// What to draw: the shape of one image's latents (channels, height, width), and for each step whether it
/// takes noise.
pub(super) struct NoisePlan<'a> {
    pub(super) shape: [i64; 3],
    pub(super) seed: u64,
    pub(super) num_images: u32,
    pub(super) steps: &'a [bool],
}

/// Noise for all images, (num_images, channels, height, width) each, float32 on the CPU.
pub(super) struct Noise {
    pub(super) initial: Tensor,
    /// One entry for each step.
    pub(super) steps: Vec<Option<Tensor>>,
}

/// Draws in the pipeline's order. Fails only where memory does.
pub(super) fn draw(plan: &NoisePlan<'_>) -> Result<Noise, ModelError> {
    let [channels, height, width] = plan.shape;
    let one = [1, channels, height, width];
    let mut initial = Vec::new();
    let mut steps: Vec<Vec<Tensor>> = plan.steps.iter().map(|_| Vec::new()).collect();
    {
        let _lock = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..u64::from(plan.num_images) {
            // Both are bounded far below 2⁶³.
            tch::manual_seed(plan.seed.saturating_add(index) as i64);
            initial.push(Tensor::f_randn(one, (Kind::Float, Device::Cpu))?);
            for (drawn, _) in steps.iter_mut().zip(plan.steps).filter(|(_, takes)| **takes) {
                drawn.push(Tensor::f_randn(one, (Kind::Float, Device::Cpu))?);
            }
        }
    }
    let join = |rows: Vec<Tensor>| {
        if rows.is_empty() { Ok(None) } else { Tensor::f_cat(&rows, 0).map(Some) }
    };
    let initial = Tensor::f_cat(&initial, 0)?;
    Ok(Noise { initial, steps: steps.into_iter().map(join).collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, num_images: u32, steps: &[bool]) -> Noise {
        draw(&NoisePlan { shape: [4, 2, 3], seed, num_images, steps }).unwrap()
    }

    #[test]
    fn an_image_has_the_noise_of_its_own_seed() {
        let many = plan(5, 3, &[true, false, true]);
        assert_eq!(many.initial.size(), [3, 4, 2, 3]);
        for index in 0..3 {
            let one = plan(5 + index, 1, &[true, false, true]);
            let row = |tensor: &Tensor| tensor.narrow(0, index as i64, 1);
            assert_eq!(row(&many.initial), one.initial);
            assert!(many.steps[1].is_none() && one.steps[1].is_none());
            for step in [0, 2] {
                assert_eq!(
                    row(many.steps[step].as_ref().unwrap()),
                    *one.steps[step].as_ref().unwrap()
                );
            }
        }
    }

    #[test]
    fn noise_of_steps_follows_the_initial_latents_of_one_generator() {
        let noise = plan(11, 1, &[true, true]);
        let _lock = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(11);
        let draw = || Tensor::randn([1, 4, 2, 3], (Kind::Float, Device::Cpu));
        assert_eq!(noise.initial, draw());
        for drawn in &noise.steps {
            assert_eq!(*drawn.as_ref().unwrap(), draw());
        }
    }
}
