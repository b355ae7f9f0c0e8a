"""What is compared: prompts, scheduler configurations, pairs of sampler and spacing, sizes.

Both programs beside this file read it: `make_models.py`, which makes the tiny models, and
`make_references.py`, which records what HF diffusers does with them. `main.rs` takes its cases from what
was recorded. Nothing here computes anything.
"""

# diffusers' class and the spacing that is asked for.
PAIRS = [
    ("EulerDiscreteScheduler", "default"),
    ("EulerDiscreteScheduler", "karras"),
    ("EulerAncestralDiscreteScheduler", "default"),
    ("DDIMScheduler", "default"),
    ("DPMSolverMultistepScheduler", "default"),
    ("DPMSolverMultistepScheduler", "karras"),
]

STEP_COUNTS = [1, 2, 4, 10, 20, 50]
VARIANT_STEP_COUNTS = [1, 13]

# The file that came with Stable Diffusion 1.x: it leaves out what later versions of diffusers added.
SPARSE = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

# Each is a whole scheduler_config.json. Every step count is recorded for the first two, a few for the rest.
CONFIGS = {
    "sparse": SPARSE,
    # As diffusers' DDIMScheduler.save_pretrained writes it, with every default spelled out.
    "spelled-out-v": {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.42.1",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": False,
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "thresholding": False,
        "timestep_spacing": "leading",
        "trained_betas": None,
    },
    # Every default of every class, and the pipeline's corrections of `steps_offset` and `clip_sample`.
    "empty": {},
    "leading": {**SPARSE, "timestep_spacing": "leading"},
    "linspace": {**SPARSE, "timestep_spacing": "linspace", "steps_offset": 0, "set_alpha_to_one": True},
    "trailing-zero-snr-v": {
        **SPARSE,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    },
    "cosine": {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "variance_type": "fixed_small"},
    "cosine-clipped": {
        "_class_name": "DPMSolverMultistepScheduler",
        "beta_schedule": "squaredcos_cap_v2",
        "lambda_min_clipped": -5.1,
        "timestep_spacing": "leading",
    },
    "trained-betas": {
        "num_train_timesteps": 12,
        "trained_betas": [0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4],
    },
    # DPMSolverMultistepScheduler's own file holds `-Infinity`, which is not JSON.
    "dpm-own": {
        **SPARSE,
        "_class_name": "DPMSolverMultistepScheduler",
        "lambda_min_clipped": float("-inf"),
        "solver_order": 2,
        "solver_type": "heun",
        "euler_at_final": True,
        "final_sigmas_type": "sigma_min",
        "use_karras_sigmas": True,
    },
    "dpm-first-order": {**SPARSE, "solver_order": 1, "lower_order_final": False, "timestep_spacing": "trailing"},
    "dpm-long-tail": {**SPARSE, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
    "karras-ends": {**SPARSE, "_class_name": "EulerDiscreteScheduler", "sigma_min": 0.05, "sigma_max": 10.0},
    "sample": {**SPARSE, "prediction_type": "sample"},
    "listed-defaults": {
        **SPARSE,
        "timestep_spacing": "trailing",
        "beta_schedule": "linear",
        "_use_default_values": ["timestep_spacing", "beta_schedule"],
    },
}

# Loops run on recorded random model outputs, for these configurations.
LOOP_CONFIGS = [
    "sparse",
    "spelled-out-v",
    "trailing-zero-snr-v",
    "cosine",
    "trained-betas",
    "dpm-own",
    "dpm-first-order",
    "dpm-long-tail",
    "sample",
]
LOOP_STEP_COUNTS = [2, 10]
LONG_LOOP = ("sparse", 20)
LOOP_SHAPE = (1, 4, 3, 5)

PROMPTS = [
    "",
    " ",
    "a",
    "a red circle on a white background",
    "A RED Circle On A White BACKGROUND",
    "  two   spaces\tand a tab\nand a line  ",
    "a photo of an astronaut riding a horse on mars, 8k, masterpiece, trending on artstation",
    "it's the cat's, we'll see; they'd've gone; I'm, you're",
    "don't can't won't 'quoted' \"double\"",
    "1234567890 3.14159 1,000,000 0x1F 2nd 3rd",
    "h3ll0 w0rld a1b2c3",
    "e\u0301le\u0300ve cafe\u0301 na\u00efve r\u00e9sum\u00e9",
    "\u00c5ngstr\u00f6m \u212bngstr\u00f6m",
    "\ufb01ne \ufb02ower \u2460 \u00bd \u2122",
    "stra\u00dfe STRASSE \u1e9e",
    "\u0130stanbul \u0131\u015f\u0131k",
    "\u03a3\u0391\u03a3 \u03c3\u03b1\u03c2",
    "\u65e5\u672c\u306e\u732b \u4e2d\u6587 \ud55c\uad6d\uc5b4",
    "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u043a\u0440\u0443\u0433",
    "\u0639\u0631\u0628\u064a \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "a\u00a0b\u2003c\u200bd\ufeffe",
    "soft\u00adhyphen zero\u200cwidth\u200djoiner",
    "tab\tvertical\u000bform\u000cfeed\u0085next\u2028line\u2029para",
    "nul\u0001bell\u0007escape\u001bdelete\u007f",
    "(weighted:1.3) [less] {more} ((very)) BREAK <lora:x:1>",
    "a, b; c: d. e! f? g/h\\i|j~k`l^m&n*o",
    "!!! ??? ... --- ___ ::: $$$ %%% ### @@@",
    "<html><b>bold</b></html> &amp; &lt; &#39;",
    "https://example.org/a?b=c&d=e#f user@example.org",
    "snake_case camelCase kebab-case dot.case",
    "a-very-long-word-" + "x" * 200,
    "word " * 100,
    "red " * 75,
    "red " * 76,
    ", ".join(["highly detailed", "sharp focus", "studio light"] * 12),
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "\U0001d504\U0001d505 \uff21\uff22\uff23 \u2167",
    "emoji\U0001f3a8in\U0001f5bcwords",
    "a small red heart above a large blue star, next to nothing",
    "'s 't 're 've 'm 'll 'd '",
]

# Places in PROMPTS whose embeddings are compared.
EMBEDDED = [0, 3, 17, 33]

# Pictures: (width, height). The second has an odd number of latents across.
SIZES = [(64, 64), (72, 64)]
PICTURE_STEPS = 5
PICTURE = {
    "prompt": "a red circle on a white background",
    "negative_prompt": "a large blue star",
    "seed": 1234,
}
GUIDED = 5.0
UNGUIDED = 1.0
