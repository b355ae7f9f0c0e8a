//! The spacing of Karras et al. (arXiv:2206.00364, equation 5, rho = 7) and the way back from a sigma to a
//! training time, as `_convert_to_karras` and `_sigma_to_t` of diffusers compute them: in float64, with
//! the logarithms of the training sigmas in float32.

use super::config::{Flag, Keys};
use super::numpy;
use super::scheduler::SchedulerError;
use sdrest_proto::sampling::SigmaSchedule;
use std::hint::black_box;

/// Whether the run is spaced so: the caller asked for it, or the model's own configuration says it.
pub(super) fn is_wanted(keys: &Keys<'_>, spacing: SigmaSchedule) -> Result<Flag, SchedulerError> {
    match spacing {
        SigmaSchedule::Karras => Ok(Flag::On),
        SigmaSchedule::Default => keys.flag("use_karras_sigmas", Flag::Off),
    }
}

/// `count` sigmas falling from `highest` to `lowest`, where the configuration does not set its own ends.
pub(super) fn sigmas(
    keys: &Keys<'_>,
    ends: (f64, f64),
    count: usize,
) -> Result<Vec<f64>, SchedulerError> {
    let (highest, lowest) = ends;
    let lowest = keys.optional_number("sigma_min")?.unwrap_or(lowest);
    let highest = keys.optional_number("sigma_max")?.unwrap_or(highest);
    for (key, value) in [("sigma_min", lowest), ("sigma_max", highest)] {
        if value <= 0.0 {
            return Err(keys.refuse(key, "above 0"));
        }
    }
    let rho = black_box(7.0_f64);
    let (from, to) = (highest.powf(1.0 / rho), lowest.powf(1.0 / rho));
    Ok(numpy::linspace(0.0, 1.0, count)
        .into_iter()
        .map(|ramp| (from + ramp * (to - from)).powf(rho))
        .collect())
}

/// The training time at which the schedule has this sigma, between its whole steps.
pub(super) fn sigma_to_t(sigma: f64, log_sigmas: &[f32]) -> f64 {
    let log_sigma = sigma.max(1e-10).ln();
    let below = log_sigmas.iter().rposition(|log| log_sigma - f64::from(*log) >= 0.0).unwrap_or(0);
    let below = below.min(log_sigmas.len().saturating_sub(2));
    let (Some(low), Some(high)) = (log_sigmas.get(below), log_sigmas.get(below + 1)) else {
        return 0.0;
    };
    let weight = ((f64::from(*low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f64 + weight * (below + 1) as f64
}
