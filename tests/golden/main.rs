//! Goldens: what sdrest computes against what HF diffusers and transformers compute, part by part and as
//! whole pictures. The references lie in `data/` and were recorded by `make_references.py` with the tiny
//! models that `make_models.py` made and with the demo model. sdrest's side runs in `sdrest-probe`, so this
//! binary links no libtorch. Bounds: ids equal, tables equal on the kind of processor that recorded them
//! (Intel with AVX-512), Karras sigmas within 1e-6 relative, text model, UNet, VAE and loops, and tables on other
//! processors, within 1e-5 relative (‖a−b‖/‖b‖), pictures at most one level apart in any pixel. A failure says
//! what, where and how far; every test prints the worst figure that it met.

mod loops;
mod parts;
mod pictures;
mod probe;
mod tables;
mod tensors;
mod tokens;
mod verdict;

/// One test for each name, calling `$check` with it.
macro_rules! cases {
    ($room:ident: $check:path { $($test:ident => $($argument:expr),+;)* }) => {
        mod $room {
            $(#[test]
            fn $test() {
                $check($($argument),+);
            })*
        }
    };
}

cases!(token_ids: crate::tokens::compare {
    tiny => "tiny-epsilon";
    demo => "demo";
});

#[test]
fn a_control_token_written_in_a_prompt_is_text() {
    tokens::control_tokens_are_text();
}

cases!(scheduler_tables: crate::tables::compare {
    sparse => "sparse";
    spelled_out_v => "spelled-out-v";
    empty => "empty";
    leading => "leading";
    linspace => "linspace";
    trailing_zero_snr_v => "trailing-zero-snr-v";
    cosine => "cosine";
    cosine_clipped => "cosine-clipped";
    trained_betas => "trained-betas";
    dpm_own => "dpm-own";
    dpm_first_order => "dpm-first-order";
    dpm_long_tail => "dpm-long-tail";
    karras_ends => "karras-ends";
    sample => "sample";
    listed_defaults => "listed-defaults";
});

#[test]
fn no_recorded_schedule_is_left_out() {
    tables::every_config_is_listed(include_str!("main.rs"));
}

#[test]
fn what_diffusers_fails_on_is_refused() {
    tables::refusals();
}

cases!(scheduler_loops: crate::loops::compare {
    sparse => "sparse";
    spelled_out_v => "spelled-out-v";
    trailing_zero_snr_v => "trailing-zero-snr-v";
    cosine => "cosine";
    trained_betas => "trained-betas";
    dpm_own => "dpm-own";
    dpm_first_order => "dpm-first-order";
    dpm_long_tail => "dpm-long-tail";
    sample => "sample";
});

cases!(text_model: crate::parts::text {
    tiny_epsilon => "tiny-epsilon";
    tiny_v => "tiny-v";
    demo => "demo";
});

cases!(unet: crate::parts::unet {
    tiny_epsilon => "tiny-epsilon";
    tiny_v => "tiny-v";
    demo => "demo";
});

cases!(vae: crate::parts::vae {
    tiny_epsilon => "tiny-epsilon";
    tiny_v => "tiny-v";
    demo => "demo";
});

cases!(final_pictures: crate::pictures::compare {
    tiny_epsilon_euler => "tiny-epsilon", "EulerDiscreteScheduler", "default";
    tiny_epsilon_euler_karras => "tiny-epsilon", "EulerDiscreteScheduler", "karras";
    tiny_epsilon_euler_ancestral => "tiny-epsilon", "EulerAncestralDiscreteScheduler", "default";
    tiny_epsilon_ddim => "tiny-epsilon", "DDIMScheduler", "default";
    tiny_epsilon_dpm => "tiny-epsilon", "DPMSolverMultistepScheduler", "default";
    tiny_epsilon_dpm_karras => "tiny-epsilon", "DPMSolverMultistepScheduler", "karras";
    tiny_v_euler => "tiny-v", "EulerDiscreteScheduler", "default";
    tiny_v_euler_karras => "tiny-v", "EulerDiscreteScheduler", "karras";
    tiny_v_euler_ancestral => "tiny-v", "EulerAncestralDiscreteScheduler", "default";
    tiny_v_ddim => "tiny-v", "DDIMScheduler", "default";
    tiny_v_dpm => "tiny-v", "DPMSolverMultistepScheduler", "default";
    tiny_v_dpm_karras => "tiny-v", "DPMSolverMultistepScheduler", "karras";
    demo_euler => "demo", "EulerDiscreteScheduler", "default";
    demo_euler_karras => "demo", "EulerDiscreteScheduler", "karras";
    demo_euler_ancestral => "demo", "EulerAncestralDiscreteScheduler", "default";
    demo_ddim => "demo", "DDIMScheduler", "default";
    demo_dpm => "demo", "DPMSolverMultistepScheduler", "default";
    demo_dpm_karras => "demo", "DPMSolverMultistepScheduler", "karras";
});
