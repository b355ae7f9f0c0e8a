"""HF diffusers as the judge: pipelines reloaded from their folders, on the CPU, in float32.

A sampler is made by its class's `from_config` from the file on disk, as it is, with `use_karras_sigmas`
added for the Karras spacing, and handed to the pipeline that is loaded from the folder; so the pipeline's
own corrections of old configurations apply. Versions: torch 2.11.0, diffusers 0.42.1, transformers 5.23.0.
"""

import json
import logging
import pathlib
import warnings

import diffusers
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
TINY_MODELS = {name: HERE / "models" / name for name in ("tiny-epsilon", "tiny-v")}
DEMO_MODEL = HERE.parent.parent / "sdrest-worker" / "demo-model"
VERSIONS = {"torch": "2.11.0", "diffusers": "0.42.1", "transformers": "5.23.0"}


def prepare():
    """Sets torch up as the references need it, and refuses other versions than theirs."""
    for module in (torch, diffusers, transformers):
        found = module.__version__.split("+")[0]
        if found != VERSIONS[module.__name__]:
            raise SystemExit(f"{module.__name__} {VERSIONS[module.__name__]} is needed, found {found}")
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def scheduler(config, kind, spacing):
    """The class `kind`, made from the dictionary of a scheduler_config.json."""
    flags = {"use_karras_sigmas": True} if spacing == "karras" else {}
    return getattr(diffusers, kind).from_config(dict(config), **flags)


def config_of(folder):
    """The dictionary of a model's scheduler_config.json. Python's reader takes `-Infinity`."""
    return json.loads((folder / "scheduler" / "scheduler_config.json").read_text())


def pipeline(folder, kind, spacing):
    """The pipeline in `folder` with the wanted sampler."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        folder,
        scheduler=scheduler(config_of(folder), kind, spacing),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        torch_dtype=torch.float32,
        local_files_only=True,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
