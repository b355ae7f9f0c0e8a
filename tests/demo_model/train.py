"""Trains the demo model from nothing: drawings, VAE, its bar, whitened latents, UNet with text model, export.

    python train.py --work DIR [--threads 1] [--device cpu|cuda]

Call it again with the same folder to go on after an interruption. Data, order, step counts and seeds are fixed; two
machines still differ in rounding. Nothing is written outside the work folder. `README.md` has times and bars.
"""

import argparse
import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

import pictures
import train_unet
import train_vae
from export import export
from trainee import Stopped, listen_for_stop, load, save


@dataclass(frozen=True)
class Machine:
    """Where the arithmetic runs."""

    device: str

    def autocast(self):
        """bfloat16 on a CPU, where it halves the time; a GPU is not the limit at these sizes."""
        return torch.autocast("cpu", torch.bfloat16) if self.device == "cpu" else contextlib.nullcontext()

    def speed_up(self, *modules):
        """Compiles forward and backward on a CPU, in place: two thirds of the time; one minute and a C++ compiler before."""
        for module in modules if self.device == "cpu" and shutil.which("g++") else ():
            module.compile(dynamic=False)


def finished_vae(work, machine):
    """The whitened VAE, once its reconstructions reach the bar; None, with the figures printed, where they do not."""
    path = work / "vae.pt"
    vae = train_vae.train(work, machine)
    if path.exists():
        vae.load_state_dict(load(path))
        return vae
    figures, holds = train_vae.judge(vae, machine)
    report("VAE reconstructions", figures)
    if not holds:
        print(f"the VAE is below its bar {train_vae.BAR}: the UNet is not started", flush=True)
        return None
    train_vae.whiten(vae, work)
    save(path, vae.state_dict())
    return vae


def finished_latents(work, vae, machine):
    """The whitened latents of all training scenes, from the work folder where they are there."""
    path = work / "latents.pt"
    if not path.exists():
        save(path, train_vae.encode_all(vae, work, machine))
    return load(path)


def report(title, figures):
    """Prints figures as one line of JSON."""
    print(title, json.dumps({name: [round(share, 4), judged] for name, (share, judged) in figures.items()}), flush=True)


def judge_latest(work, machine):
    """Scores the newest VAE checkpoint; trains nothing."""
    found = train_vae.latest(work)
    if found is None:
        print("no VAE checkpoint yet")
        return
    figures, holds = train_vae.judge(found[0], machine)
    report(found[1], figures)
    print(f"bar {train_vae.BAR} {'holds' if holds else 'does not hold'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings and checkpoints, 2.5 GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--judge-vae", action="store_true", help="only score the newest VAE checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(args.work / "compiled"))
    machine = Machine(args.device)
    if args.judge_vae:
        judge_latest(args.work, machine)
        return
    listen_for_stop()
    print(f"pid {os.getpid()}", flush=True)
    try:
        pictures.prepare(args.work)
        vae = finished_vae(args.work, machine)
        if vae is None:
            raise SystemExit(1)
        latents = finished_latents(args.work, vae, machine)
        unet, text = train_unet.train(args.work, machine, latents)
    except Stopped as stop:
        raise SystemExit(f"stopped: {stop}")
    size = export(args.work / "demo-model", vae, unet, text)
    print(f"{args.work / 'demo-model'}: {size} bytes; now score it: python score.py {args.work / 'demo-model'}")


if __name__ == "__main__":
    main()
