"""Records what HF diffusers does with the cases of `cases.py`: the goldens that `main.rs` compares with.

    python make_references.py [OUT]      (default: `data` beside this file)

Needs the versions that `reference.py` names, and the models that `make_models.py` made. Writes, under OUT:

    tokens.json                      prompts, and their padded ids by each model's tokenizer
    schedulers/NAME.json             a scheduler_config.json as it may stand in a model's folder
    schedulers/NAME.safetensors      betas, alphas_cumprod, and per sampler, spacing and step count the rest
    loops.safetensors                recorded model outputs and noise, and the samples they lead to
    parts-MODEL.safetensors          text embeddings, UNet outputs, VAE pictures, with their inputs
    pictures.json, pictures/…png     final pictures of whole runs, stacked, and how to ask for them
    refused.json                     schedules that diffusers fails on
"""

import functools
import json
import pathlib
import shutil
import sys
from unittest import mock

import numpy
import torch
from diffusers import StableDiffusionPipeline
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
from PIL import Image
from safetensors.torch import save_file

import cases
import reference

MODELS = {**reference.TINY_MODELS, "demo": reference.DEMO_MODEL}


def save(tensors, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


# --- tokens ---------------------------------------------------------------------------------------------


def record_tokens(out):
    ids = {}
    for name in ("tiny-epsilon", "demo"):
        tokenizer = reference.pipeline(MODELS[name], *cases.PAIRS[0]).tokenizer
        encode = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids[name] = [tokenizer(prompt, **encode).input_ids for prompt in cases.PROMPTS]
    text = json.dumps({"prompts": cases.PROMPTS, "ids": ids}, separators=(",", ":"))
    (out / "tokens.json").write_text(text + "\n")


# --- schedulers -----------------------------------------------------------------------------------------


def in_pipeline(parts, config, pair):
    """The sampler as the pipeline's constructor leaves it."""
    made = reference.scheduler(config, *pair)
    off = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts, scheduler=made, **off).scheduler


def walk(scheduler, sample, outputs, noise):
    """Every sample of a run on given model outputs, and what the UNet would have seen."""
    samples, scaled = [], []
    for i, t in enumerate(scheduler.timesteps):
        scaled.append(scheduler.scale_model_input(sample, t))
        with mock.patch.object(ancestral, "randn_tensor", lambda *_, index=i, **__: noise[index]):
            sample = scheduler.step(outputs[i], t, sample, return_dict=False)[0]
        samples.append(sample)
    return torch.stack(samples), torch.stack(scaled)


def record_training(tables, kind, scheduler):
    """The tables over the training steps. One class's own are kept only where they differ from the first's."""
    for table in ("betas", "alphas_cumprod"):
        found = getattr(scheduler, table)
        if not torch.equal(tables.setdefault(table, found), found):
            tables[f"{table}/{kind}"] = found


def tables_of(scheduler, prefix):
    tables = {
        f"{prefix}/timesteps": scheduler.timesteps.to(torch.float64),
        f"{prefix}/init_noise_sigma": torch.tensor([float(scheduler.init_noise_sigma)], dtype=torch.float64),
    }
    if hasattr(scheduler, "sigmas"):
        tables[f"{prefix}/sigmas"] = scheduler.sigmas
    return tables


def record_schedulers(out):
    pipe = reference.pipeline(MODELS["tiny-epsilon"], *cases.PAIRS[0])
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    # The first sample is as loud as the first sigma of most schedules, so that the walk resembles a run.
    loops = {"sample": random(1, *cases.LOOP_SHAPE) * 10}
    loops["model_output"] = random(2, 50, *cases.LOOP_SHAPE)
    loops["noise"] = random(3, 50, *cases.LOOP_SHAPE)
    refused = []
    for name, config in cases.CONFIGS.items():
        tables = {}
        counts = cases.STEP_COUNTS if name in ("sparse", "spelled-out-v") else cases.VARIANT_STEP_COUNTS
        if name in cases.LOOP_CONFIGS:
            counts = sorted({*counts, *cases.LOOP_STEP_COUNTS})
        looped = {(loop, steps) for loop in cases.LOOP_CONFIGS for steps in cases.LOOP_STEP_COUNTS}
        looped.add(cases.LONG_LOOP)
        for pair in cases.PAIRS:
            scheduler = in_pipeline(parts, config, pair)
            record_training(tables, pair[0], scheduler)
            for steps in counts:
                scheduler = in_pipeline(parts, config, pair)
                prefix = f"{pair[0]}/{pair[1]}/{steps}"
                try:
                    scheduler.set_timesteps(steps)
                    made = tables_of(scheduler, prefix)
                    samples, scaled = walk(scheduler, loops["sample"], loops["model_output"], loops["noise"])
                except (ValueError, IndexError, NotImplementedError) as error:
                    refused.append({"config": name, "kind": pair[0], "spacing": pair[1], "steps": steps})
                    print(f"refused by diffusers: {name} {prefix}: {error}"[:160])
                    continue
                tables.update(made)
                if (name, steps) in looped:
                    loops[f"{name}/{prefix}/samples"] = samples
                    if name == "sparse":
                        loops[f"{name}/{prefix}/scaled"] = scaled
        save(tables, out / "schedulers" / f"{name}.safetensors")
        (out / "schedulers" / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n")
    loops["model_output"], loops["noise"] = loops["model_output"][:20], loops["noise"][:20]
    save(loops, out / "loops.safetensors")
    (out / "refused.json").write_text(json.dumps(refused, indent=1) + "\n")


# --- parts ----------------------------------------------------------------------------------------------


def record_parts(out):
    for name, folder in MODELS.items():
        pipe = reference.pipeline(folder, *cases.PAIRS[0])
        # The demo model's tensors are larger: fewer of them.
        places = cases.EMBEDDED[1:] if name == "demo" else cases.EMBEDDED
        parts = {}
        encode = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
        ids = pipe.tokenizer([cases.PROMPTS[place] for place in places], **encode).input_ids
        parts["text/input_ids"] = ids
        parts["text/prompt_embeds"] = pipe.text_encoder(ids)[0]
        hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        parts["text/clip_skip_1"] = norm(pipe, hidden[-2])
        record_unet(pipe, parts)
        record_vae(pipe, parts)
        save(parts, out / f"parts-{name}.safetensors")


def norm(pipe, hidden):
    """What `encode_prompt` does with `clip_skip`: the last layer's norm on an earlier layer's output."""
    encoder = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
    return encoder.final_layer_norm(hidden)


def record_unet(pipe, parts):
    """Whole, fractional and extreme times; square, odd and tiny sizes; one row and three."""
    text = parts["text/prompt_embeds"]
    # Batch, height and width in latents, time.
    shapes = [(1, 8, 8, 999.0), (1, 8, 8, 0.0), (2, 9, 13, 500.0), (1, 16, 8, 947.1052856445312), (3, 5, 7, 1.0)]
    for i, (batch, height, width, t) in enumerate(shapes):
        sample = random(100 + i, batch, 4, height, width)
        rows = torch.tensor([(i + row) % len(text) for row in range(batch)])
        context = text[rows]
        timestep = torch.tensor([t], dtype=torch.float32)
        parts[f"unet/{i}/sample"], parts[f"unet/{i}/timestep"] = sample, timestep
        parts[f"unet/{i}/prompt_embeds_rows"] = rows
        parts[f"unet/{i}/noise_pred"] = pipe.unet(sample, timestep[0], encoder_hidden_states=context).sample


def record_vae(pipe, parts):
    for i, (batch, height, width) in enumerate([(1, 4, 6), (2, 3, 5)]):
        z = random(200 + i, batch, 4, height, width) * 5.0
        image = pipe.vae.decode(z, return_dict=False)[0]
        parts[f"vae/{i}/z"], parts[f"vae/{i}/image"] = z, image
        rgb = pipe.image_processor.postprocess(image, output_type="np")
        parts[f"vae/{i}/rgb"] = torch.from_numpy((rgb * 255).round().astype("uint8"))


# --- pictures -------------------------------------------------------------------------------------------


def picture_cases():
    """Every pair, with and without guidance, one picture and three, two sizes; some of each for the others."""
    small, odd = cases.SIZES
    for kind, spacing in cases.PAIRS:
        for scale in (cases.GUIDED, cases.UNGUIDED):
            for count in (3, 1):
                for size in cases.SIZES:
                    yield "tiny-epsilon", kind, spacing, scale, count, size, cases.PICTURE_STEPS
        yield "tiny-v", kind, spacing, cases.GUIDED, 3, odd, cases.PICTURE_STEPS
        yield "tiny-v", kind, spacing, cases.GUIDED, 1, small, cases.PICTURE_STEPS
        yield "tiny-v", kind, spacing, cases.UNGUIDED, 1, odd, cases.PICTURE_STEPS
    for kind, spacing in cases.PAIRS:
        yield "demo", kind, spacing, cases.GUIDED, 1, (128, 128), 20
    yield "demo", *cases.PAIRS[0], cases.UNGUIDED, 1, (128, 128), 8
    yield "demo", *cases.PAIRS[5], cases.GUIDED, 3, (128, 96), 8


def draw(case):
    """One run of the pipeline: the pictures as bytes, (num_images, height, width, 3)."""
    images = pipeline(case["model"], case["kind"], case["spacing"])(
        prompt=case["prompt"],
        negative_prompt=case["negative_prompt"],
        width=case["width"],
        height=case["height"],
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance_scale"],
        num_images_per_prompt=case["num_images"],
        generator=[torch.Generator("cpu").manual_seed(case["seed"] + i) for i in range(case["num_images"])],
        output_type="pil",
    ).images
    return numpy.stack([numpy.asarray(image) for image in images])


@functools.lru_cache(maxsize=2)
def pipeline(model, kind, spacing):
    return reference.pipeline(MODELS[model], kind, spacing)


def record_pictures(out):
    """A single picture that came out as the first of three did is not stored twice: its file is theirs."""
    listed, seen = [], {}
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for model, kind, spacing, scale, count, (width, height), steps in picture_cases():
        case = {"model": model, "kind": kind, "spacing": spacing, "guidance_scale": scale}
        case |= {"num_images": count, "width": width, "height": height, "steps": steps, **cases.PICTURE}
        pixels = draw(case)
        guided = "guided" if scale > 1 else "unguided"
        kinds = f"{model}-{kind.removesuffix('Scheduler')}-{spacing}-{guided}"
        larger = seen.get((kinds, 3, width, height))
        if count == 1 and larger is not None and numpy.array_equal(pixels[0], larger[0]):
            case["file"] = f"{kinds}-3x{width}x{height}.png"
        else:
            case["file"] = f"{kinds}-{count}x{width}x{height}.png"
            stacked = numpy.concatenate(list(pixels), axis=0)
            Image.fromarray(stacked).save(out / "pictures" / case["file"], optimize=True)
        seen[(kinds, count, width, height)] = pixels
        listed.append(case)
    (out / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


def make(out):
    reference.prepare()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for record in (record_tokens, record_schedulers, record_parts, record_pictures):
        record(out)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(f"{record.__name__}: {size / 1000:.0f} kB so far", flush=True)


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else reference.HERE / "data")
