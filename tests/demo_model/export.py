"""Writes the trained weights as an ordinary diffusers folder in fp16, at most 12 MB.

The layout is that of Stable Diffusion 1.x, down to the `text_model.` prefix of the text model's tensors, which newer
transformers leave out. Nothing in the folder tells a loader that this model is special.
"""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from models import SCHEDULER, TOKENIZER

LIMIT_BYTES = 12_000_000
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "requires_safety_checker": False,
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(target, vae, unet, text):
    """Writes the folder; returns its size in bytes, an error where it is over the limit."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "scheduler").mkdir(parents=True)
    vae.to(torch.float16).save_pretrained(target / "vae")
    unet.to(torch.float16).save_pretrained(target / "unet")
    _write_text_model(target / "text_encoder", text)
    shutil.copytree(TOKENIZER, target / "tokenizer")
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2) + "\n")
    (target / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    if size > LIMIT_BYTES:
        raise ValueError(f"the folder has {size} bytes; at most {LIMIT_BYTES} are allowed")
    return size


def _write_text_model(target, text):
    plain = CLIPTextModel(text.config)
    plain.load_state_dict(text.state_dict())
    plain.to(torch.float16).save_pretrained(target)
    path = target / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if "position_ids" not in name}
    prefixed = {name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in tensors.items()}
    save_file(prefixed, path, metadata={"format": "pt"})
