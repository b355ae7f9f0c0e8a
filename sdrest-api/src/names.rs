//! The names that clients use for samplers and spacings: A1111's labels to show, and diffusers' class names
//! accepted beside them. The only file that translates them.

use sdrest_proto::{
    bounds::quote,
    error::{ErrorCode, Fault},
    sampling::{SchedulerKind, SigmaSchedule},
};

/// Every sampler with its label and the other names that are accepted.
pub fn sampler_aliases(kind: SchedulerKind) -> &'static [&'static str] {
    match kind {
        SchedulerKind::EulerDiscrete => &["k_euler", "EulerDiscreteScheduler"],
        SchedulerKind::EulerAncestralDiscrete => {
            &["k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"]
        }
        SchedulerKind::Ddim => &["DDIMScheduler"],
        SchedulerKind::DpmSolverMultistep => &["k_dpmpp_2m", "DPMSolverMultistepScheduler"],
    }
}

/// A1111's label of a sampler.
pub fn sampler_label(kind: SchedulerKind) -> &'static str {
    match kind {
        SchedulerKind::EulerDiscrete => "Euler",
        SchedulerKind::EulerAncestralDiscrete => "Euler a",
        SchedulerKind::Ddim => "DDIM",
        SchedulerKind::DpmSolverMultistep => "DPM++ 2M",
    }
}

/// The sampler of that name, in any case.
pub fn sampler(name: &str) -> Result<SchedulerKind, Fault> {
    let known = |kind: &SchedulerKind| {
        is(sampler_label(*kind), name) || sampler_aliases(*kind).iter().any(|alias| is(alias, name))
    };
    SchedulerKind::ALL.into_iter().find(known).ok_or_else(|| {
        let labels: Vec<&str> = SchedulerKind::ALL.into_iter().map(sampler_label).collect();
        unknown("sampler", &labels, name)
    })
}

/// The other names of a spacing.
pub fn spacing_aliases(spacing: SigmaSchedule) -> &'static [&'static str] {
    match spacing {
        SigmaSchedule::Default => &["default"],
        SigmaSchedule::Karras => &["use_karras_sigmas"],
    }
}

/// A1111's label of a spacing.
pub fn spacing_label(spacing: SigmaSchedule) -> &'static str {
    match spacing {
        SigmaSchedule::Default => "Automatic",
        SigmaSchedule::Karras => "Karras",
    }
}

/// The spacing of that name, in any case.
pub fn spacing(name: &str) -> Result<SigmaSchedule, Fault> {
    let known = |spacing: &SigmaSchedule| {
        is(spacing_label(*spacing), name)
            || spacing_aliases(*spacing).iter().any(|alias| is(alias, name))
    };
    SigmaSchedule::ALL.into_iter().find(known).ok_or_else(|| {
        let labels: Vec<&str> = SigmaSchedule::ALL.into_iter().map(spacing_label).collect();
        unknown("scheduler", &labels, name)
    })
}

fn is(known: &str, name: &str) -> bool {
    known.eq_ignore_ascii_case(name.trim())
}

fn unknown(parameter: &str, labels: &[&str], value: &str) -> Fault {
    let message =
        format!("`{parameter}` must be one of {}, got {}", labels.join(", "), quote(value));
    Fault::new(ErrorCode::ValidationFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_class_names_are_understood_in_any_case() {
        for kind in SchedulerKind::ALL {
            assert_eq!(sampler(sampler_label(kind)), Ok(kind));
            assert_eq!(sampler(&sampler_label(kind).to_uppercase()), Ok(kind));
            assert_eq!(sampler(&kind.class_name().to_lowercase()), Ok(kind));
        }
        assert_eq!(spacing("karras"), Ok(SigmaSchedule::Karras));
        assert_eq!(spacing("automatic"), Ok(SigmaSchedule::Default));
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_exist() {
        let fault = sampler("Heun").unwrap_err();
        assert_eq!(
            fault.message,
            "`sampler` must be one of Euler, Euler a, DDIM, DPM++ 2M, got \"Heun\""
        );
    }
}
