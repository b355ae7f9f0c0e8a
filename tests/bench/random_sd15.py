"""Writes a Stable Diffusion 1.5 of full size with random weights (3.4 GB UNet, float32): `random_sd15.py OUT TOKENIZER`.

The tokenizer is copied from the folder TOKENIZER; its few words are enough for a benchmark.
"""
import json
import os
import shutil
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel


def parts():
    unet = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, layers_per_block=2,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    vae = AutoencoderKL(
        sample_size=512, layers_per_block=2, block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        projection_dim=768, hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))
    return unet, vae, text


def main(out, tokenizer):
    if os.path.exists(os.path.join(out, "model_index.json")):
        return
    torch.manual_seed(0)
    unet, vae, text = parts()
    unet.save_pretrained(os.path.join(out, "unet"), max_shard_size="20GB")
    vae.save_pretrained(os.path.join(out, "vae"))
    text.save_pretrained(os.path.join(out, "text_encoder"))
    # Published checkpoints have the prefix that recent transformers leave out.
    weights = {k if k.startswith("text_model.") else f"text_model.{k}": v.clone() for k, v in text.state_dict().items()
               if "position_ids" not in k}
    save_file(weights, os.path.join(out, "text_encoder", "model.safetensors"), metadata={"format": "pt"})
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                  set_alpha_to_one=False, steps_offset=1).save_pretrained(os.path.join(out, "scheduler"))
    shutil.copytree(tokenizer, os.path.join(out, "tokenizer"), dirs_exist_ok=True)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [None, None],
             "feature_extractor": [None, None], "requires_safety_checker": False}
    with open(os.path.join(out, "model_index.json"), "w") as file:
        json.dump(index, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
