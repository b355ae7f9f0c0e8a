"""Trains the UNet and the text model together on the whitened latents of the training scenes, v-prediction.

Captions are worded anew at every step. Words that no caption uses share one embedding row ("strangers"), trained by
strewing such words into a fifth of the captions, so that they change nothing; a tenth of the captions is empty, for
guidance. Single items come first: while shapes are being learnt, scenes with two items come half as often as drawn, later
one and a half times as often, for which item has which colour and shape is learnt last.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from models import alphas_cumulative, new_text_model, new_tokenizer, new_unet
from pictures import SCENES, scene
from trainee import Trainee, load, save
from wording import WORDS, varied, with_strangers

EMPTY, STRANGE = 0.1, 0.2
BINDING_FROM = 6000  # the step from which scenes with two items are favoured
EARLY = 0.7  # timesteps are 1000 · u^0.7: a little more often the noisy ones, where the layout is decided


@dataclass(frozen=True)
class Plan:
    """The UNet's training."""

    name: str = "unet"
    steps: int = 12500
    batch: int = 32
    rate: float = 1.2e-3
    cooling: int = 2500
    decay: float = 0.01
    averaging: float = 0.999


class Captions:
    """Token ids for captions, with every word outside the vocabulary replaced by one and the same token."""

    def __init__(self):
        self.tokenizer = new_tokenizer()
        known = {self.tokenizer(word).input_ids[1] for word in WORDS}
        known |= {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}
        self.stranger = next(i for i in range(len(self.tokenizer)) if i not in known)
        self.table = torch.full((len(self.tokenizer),), self.stranger)
        self.table[list(known)] = torch.tensor(list(known))

    def encode(self, texts):
        """texts → int64 [n, 77]."""
        ids = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return self.table[ids]

    def settle(self, text_model):
        """Gives every token outside the vocabulary the strangers' row, so that the exported model needs no table."""
        rows = text_model.get_input_embeddings().weight
        with torch.no_grad():
            rows.copy_(rows[self.table])


def train(work, machine, latents):
    """Runs the plan from where it stands; returns (UNet, text model) with the moving average's weights."""
    torch.manual_seed(0)
    plan, captions = Plan(), Captions()
    unet, text = new_unet().to(machine.device), new_text_model(captions.tokenizer).to(machine.device)
    finished = work / "unet.done.pt"
    if not finished.exists():
        trainee = Trainee(work / "unet.pt", {"unet": unet, "text": text}, plan)
        machine.speed_up(unet, text)
        scenes = [scene(index) for index in range(SCENES)]
        pairs = np.array([bool(s.relation) for s in scenes])
        latents, alphas = latents.to(machine.device), alphas_cumulative().to(machine.device)
        while trainee.unfinished():
            torch.manual_seed(trainee.step)
            shares = np.where(pairs, 0.5 if trainee.step < BINDING_FROM else 1.5, 1.0)
            picks = np.random.default_rng(trainee.step).choice(SCENES, plan.batch, p=shares / shares.sum())
            ids = captions.encode(_texts([scenes[i] for i in picks], random.Random(trainee.step)))
            clean = latents[torch.from_numpy(picks).to(machine.device)].float()
            trainee.advance(_loss(unet, text, (clean, ids.to(machine.device), alphas), machine))
        save(finished, trainee.average)
    state = load(finished)
    unet.load_state_dict(state["unet"])
    text.load_state_dict(state["text"])
    captions.settle(text)
    return unet.cpu().eval(), text.cpu().eval()


def _texts(scenes, rng):
    texts = []
    for item in scenes:
        text = varied(item, rng)
        if rng.random() < STRANGE:
            text = with_strangers(text, rng)
        texts.append("" if rng.random() < EMPTY else text)
    return texts


def _loss(unet, text, batch, machine):
    """Mean squared error of v = √ᾱ·ε − √(1−ᾱ)·x₀ at random timesteps."""
    clean, ids, alphas = batch
    times = (1000 * torch.rand(len(clean)) ** EARLY).long().clamp(max=999).to(clean.device)
    noise = torch.randn(clean.shape).to(clean.device)
    keep, blur = (part[times].view(-1, 1, 1, 1) for part in (alphas.sqrt(), (1 - alphas).sqrt()))
    with machine.autocast():
        states = text(input_ids=ids).last_hidden_state
        guess = unet(keep * clean + blur * noise, times, encoder_hidden_states=states).sample
    return functional.mse_loss(guess.float(), keep * noise - blur * clean)
