//! The few numpy operations that diffusers' tables pass through, with numpy's own order of operations and
//! rounding, so that the tables come out equal to the last bit. It follows numpy 2.4 on x86-64 with AVX2
//! or AVX-512. Plain numbers only; nothing here knows of tensors.

/// `np.linspace(start, stop, count)` in float64.
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let span = stop - start;
    if count < 2 {
        return vec![start; count];
    }
    let step = span / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

/// `np.arange(start, 0, -step)` in float64: numpy takes the distance between its first two values as the
/// increment, which is not always exactly `-step`.
pub(super) fn arange_down(start: f64, step: f64) -> Vec<f64> {
    let count = ((0.0 - start) / -step).ceil().max(0.0) as usize;
    let increment = (start - step) - start;
    (0..count).map(|i| start + i as f64 * increment).collect()
}

/// `np.interp(x, np.arange(0, len(values)), values)` for one `x`: float64 between float32 values.
pub(super) fn interp(x: f64, values: &[f32]) -> f64 {
    let last = values.len() - 1;
    if x.is_nan() || x <= 0.0 {
        return f64::from(values[0]);
    }
    if x >= last as f64 {
        return f64::from(values[last]);
    }
    let below = x as usize;
    let (low, high) = (f64::from(values[below]), f64::from(values[below + 1]));
    (high - low) * (x - below as f64) + low
}

/// `np.log` of a positive, normal float32. numpy does not call the C library for it but a rational
/// approximation over the mantissa with fused multiply-adds, good to four units in the last place; the
/// coefficients are those of that approximation.
pub(super) fn log_f32(value: f32) -> f32 {
    const NUMERATOR: [f32; 6] = [0.025_899_79, 0.380_883_77, 1.480_000_6, 2.112_677_6, 1.0, 0.0];
    const DENOMINATOR: [f32; 6] =
        [0.005_875_095_4, 0.154_647_64, 0.986_494_3, 2.453_006, 2.612_677_6, 1.0];
    let bits = value.to_bits();
    let mut exponent = ((bits >> 23) & 0xff) as f32 - 127.0;
    let mut mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    if mantissa > std::f32::consts::SQRT_2 {
        exponent += 1.0;
        mantissa *= 0.5;
    }
    let x = mantissa - 1.0;
    let at_x =
        |coefficients: [f32; 6]| coefficients.into_iter().fold(0.0_f32, |sum, c| sum.mul_add(x, c));
    exponent.mul_add(std::f32::consts::LN_2, at_x(NUMERATOR) / at_x(DENOMINATOR))
}
