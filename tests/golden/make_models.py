"""Makes the two tiny random models that the references are made from, in diffusers' folder layout.

    python make_models.py [OUT]          (default: `models` beside this file)

`tiny-epsilon` has two UNet levels with two layers each, `tiny-v` four levels as Stable Diffusion 1.x has
them. Both have that family's parts in small: CLIP text model, UNet with cross-attention, an AutoencoderKL
that shrinks by 8, and the demo model's tokenizer. Random weights say little by themselves (a UNet answers
almost 0, a VAE paints grey), so the last layers are scaled until the answers have the spread of a trained
model's. Weights are kept as float16, as published models are; computing is in float32 everywhere.
"""

import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

import cases
import reference

SHAPES = {
    "tiny-epsilon": {"block_out_channels": (8, 16), "layers_per_block": 2, "attention_head_dim": 2, "levels": 1, "hidden": 32},
    "tiny-v": {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "attention_head_dim": 4, "levels": 3, "hidden": 16},
}


def make_unet(shape):
    levels, hidden = shape.pop("levels"), shape.pop("hidden")
    return UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=hidden,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",) * levels + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * levels,
        **shape,
    )


def make_vae():
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def make_text_encoder(tokenizer, hidden):
    vocabulary = json.loads((tokenizer / "vocab.json").read_text())
    begin, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=3,
            num_attention_heads=4,
            hidden_act="quick_gelu",
            projection_dim=hidden,
            bos_token_id=begin,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def liven(unet, vae, hidden):
    """Gives the answers the spread of a trained model's: noise of deviation 1, a picture of about 0.5."""
    for name, weight in unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            weight.mul_(4.0)
    sample, text = torch.randn(4, 4, 8, 8), torch.randn(4, 77, hidden)
    spread = unet(sample, torch.tensor([900, 600, 300, 20]), encoder_hidden_states=text).sample.std()
    unet.conv_out.weight.div_(spread)
    spread = vae.decode(torch.randn(4, 4, 8, 8) * 4.0).sample.std()
    vae.decoder.conv_out.weight.mul_(0.5 / spread)


def save_text_encoder(encoder, folder):
    """transformers 5 leaves out the `text_model.` that the keys of every published model begin with."""
    encoder.half().save_pretrained(folder)
    state = {name: weight.clone() for name, weight in encoder.state_dict().items() if "position_ids" not in name}
    prefixed = {name if name.startswith("text_model.") else f"text_model.{name}": w for name, w in state.items()}
    save_file(prefixed, folder / "model.safetensors", metadata={"format": "pt"})


def write_index(folder):
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if "PNDM" in (folder / "scheduler" / "scheduler_config.json").read_text():
        index["scheduler"][1] = "PNDMScheduler"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_scheduler(name, folder):
    """One model with the sparse file of Stable Diffusion 1.x, one with a file that spells all out."""
    if name == "tiny-epsilon":
        folder.mkdir()
        (folder / "scheduler_config.json").write_text(json.dumps(cases.SPARSE, indent=2) + "\n")
    else:
        DDIMScheduler.from_config(cases.CONFIGS["spelled-out-v"]).save_pretrained(folder)


def make(name, seed, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    shutil.copytree(reference.DEMO_MODEL / "tokenizer", folder / "tokenizer")
    unet, vae = make_unet(dict(SHAPES[name])).eval(), make_vae().eval()
    liven(unet, vae, SHAPES[name]["hidden"])
    unet.half().save_pretrained(folder / "unet")
    vae.half().save_pretrained(folder / "vae")
    save_text_encoder(make_text_encoder(folder / "tokenizer", SHAPES[name]["hidden"]), folder / "text_encoder")
    write_scheduler(name, folder / "scheduler")
    write_index(folder)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


def main():
    reference.prepare()
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else reference.HERE / "models"
    for seed, name in enumerate(SHAPES):
        make(name, seed, out / name)
        size = sum(file.stat().st_size for file in (out / name).rglob("*") if file.is_file())
        print(f"{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
