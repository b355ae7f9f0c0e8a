"""The peer: HF diffusers, eager, float32, as a program that answers one JSON line per command (see engine.py)."""
import argparse
import json
import resource
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--size", type=int, required=True)
parser.add_argument("--threads", type=int, default=1)
arguments = parser.parse_args()

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

torch.set_num_threads(arguments.threads)
torch.set_grad_enabled(False)
opened = time.perf_counter()
pipeline = StableDiffusionPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32, safety_checker=None,
                                                   requires_safety_checker=False, local_files_only=True)
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
pipeline.set_progress_bar_config(disable=True)
unet = pipeline.unet
side = arguments.size // pipeline.vae_scale_factor
latents = torch.randn((2, 4, side, side), generator=torch.Generator().manual_seed(0))
context = torch.randn((2, 77, unet.config.cross_attention_dim), generator=torch.Generator().manual_seed(1))
print(json.dumps({"open_wall": time.perf_counter() - opened}), flush=True)


def unet_steps(count):
    for _ in range(count):
        unet(latents, 500, encoder_hidden_states=context, return_dict=False)


def image():
    pipeline("a red circle on a white background", num_inference_steps=20, guidance_scale=4.0, height=arguments.size,
             width=arguments.size, generator=torch.Generator().manual_seed(0))


for line in sys.stdin:
    words = line.split()
    if not words or words[0] == "quit":
        break
    if words[0] == "memory":
        print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
        continue
    wall, cpu = time.perf_counter(), time.process_time()
    unet_steps(int(words[1])) if words[0] == "unet" else image()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)
