"""Trains the autoencoder, judges its reconstructions and whitens its latents.

Three plans in a row, each with a fixed number of steps: crops of 64 pixels (four times cheaper, same edges), whole
pictures of 128, then the decoder alone against slightly noisy latents, which is what the UNet will hand it. The loss
counts pixels that differ from the background three times and compares slopes, so that edges come out sharp.
The UNet must not be trained before `judge` says that the bar holds.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch

from models import LATENT_SCALE, SIDE, new_vae
from pictures import as_pictures, as_tensor, opened, test_scenes
from scenes import render
from score import score
from trainee import Trainee, load, save

BAR = {"colour": 0.99, "shape": 0.97}
TEST_INK = 1
NOISE = 0.1  # largest noise on the decoder's latents, as a share of their spread


@dataclass(frozen=True)
class Plan:
    """One stretch of VAE training."""

    name: str
    steps: int
    batch: int
    crop: int
    rate: float
    decoder_only: bool = False
    decay: float = 0.0
    averaging: float = 0.998

    @property
    def cooling(self):
        """The rate falls from the first step to the last."""
        return self.steps


PLANS = (
    Plan("vae-crops", 5000, 16, 64, 2e-3),
    Plan("vae-whole", 1400, 8, SIDE, 1e-3),
    Plan("vae-decoder", 600, 8, SIDE, 6e-4, decoder_only=True),
)


def train(work, machine):
    """Runs every plan from where it stands; returns the finished VAE, not yet whitened."""
    vae = new_vae()
    for plan in PLANS:
        finished = work / f"{plan.name}.done.pt"
        if not finished.exists():
            _stretch(work, vae, plan, machine)
        vae.load_state_dict(load(finished))
    return vae.eval()


def latest(work):
    """The moving average of the newest checkpoint, finished or not, and its name; None before the first one."""
    for plan in reversed(PLANS):
        done, partial = work / f"{plan.name}.done.pt", work / f"{plan.name}.pt"
        if not (done.exists() or partial.exists()):
            continue
        vae = new_vae()
        state = load(done if done.exists() else partial)
        vae.load_state_dict(state if done.exists() else state["average"]["vae"])
        return vae.eval(), plan.name if done.exists() else f"{plan.name} at step {state['step']}"
    return None


def _stretch(work, vae, plan, machine):
    vae.to(machine.device).train()
    for frozen in (vae.encoder, vae.quant_conv, vae.post_quant_conv):
        frozen.requires_grad_(not plan.decoder_only)
    scenes, collages = opened(work, "scenes"), opened(work, "collages")
    trainee = Trainee(work / f"{plan.name}.pt", {"vae": vae}, plan)
    while trainee.unfinished():
        torch.manual_seed(trainee.step)
        picks = np.random.default_rng([plan.crop, plan.decoder_only, trainee.step])
        trainee.advance(_loss(vae, _batch(scenes, collages, plan, picks), plan, machine))
    save(work / f"{plan.name}.done.pt", trainee.average["vae"])
    vae.cpu()


def _batch(scenes, collages, plan, picks):
    """(pictures, pixel weights), cropped alike; half of them collages, a quarter when only the decoder learns."""
    other = plan.batch // (4 if plan.decoder_only else 2)
    first = scenes[np.sort(picks.integers(0, len(scenes), plan.batch - other))]
    second = collages[np.sort(picks.integers(0, len(collages), other))]
    whole = as_tensor(np.concatenate([first, second]))
    differs = (whole - whole[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.1
    both = torch.cat([whole, 1.0 + 2.0 * differs], dim=1)
    corners = picks.integers(0, SIDE - plan.crop + 1, (plan.batch, 2))
    cut = torch.stack([p[:, y:y + plan.crop, x:x + plan.crop] for p, (y, x) in zip(both, corners)])
    return cut[:, :3], cut[:, 3:]


def _loss(vae, batch, plan, machine):
    pictures, weights = (part.to(machine.device) for part in batch)
    with machine.autocast():
        with torch.set_grad_enabled(not plan.decoder_only):
            posterior = vae.encode(pictures).latent_dist
            latents = posterior.mode() if plan.decoder_only else posterior.sample()
        if plan.decoder_only:
            level = NOISE * torch.rand(len(latents), 1, 1, 1).to(latents)
            latents = latents + level * latents.std((0, 2, 3), keepdim=True) * torch.randn_like(latents)
        made = vae.decode(latents).sample
    off = made.float() - pictures
    slopes = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    loss = 0.5 * (weights * (off.abs() + off.square())).mean() + slopes
    if not plan.decoder_only:
        loss = loss + 1e-4 * posterior.kl().float().mean() / pictures[0].numel()
    return loss


def judge(vae, machine):
    """Scores the reconstructions of 400 unseen scenes; returns (figures, whether the bar holds)."""
    scenes, rng, made = test_scenes(), random.Random(TEST_INK), []
    truth = np.stack([render(scene, SIDE, rng) for scene in scenes])
    vae.to(machine.device)
    with torch.no_grad():
        for at in range(0, len(truth), 20):
            latents = vae.encode(as_tensor(truth[at:at + 20]).to(machine.device)).latent_dist.mode()
            made.append(as_pictures(vae.decode(latents).sample))
    vae.cpu()
    figures = score(scenes, np.concatenate(made))
    error = np.abs(np.concatenate(made).astype(np.float32) - truth).mean()
    figures["mean error, levels"] = (float(error), len(truth))
    return figures, all(figures[name][0] >= bar for name, bar in BAR.items())


def encode_all(vae, work, machine):
    """Mean latents of every training scene, whitened scale, float16, N × 4 × 16 × 16."""
    scenes, parts = opened(work, "scenes"), []
    vae.to(machine.device)
    with torch.no_grad(), machine.autocast():
        for at in range(0, len(scenes), 32):
            mean = vae.encode(as_tensor(scenes[at:at + 32]).to(machine.device)).latent_dist.mean
            parts.append((mean.float() * LATENT_SCALE).half().cpu())
    vae.cpu()
    return torch.cat(parts)


def whiten(vae, work):
    """Folds an affine map into the two quant convolutions so that scaled latents have zero mean and unit covariance.

    Reconstructions stay the same: what `quant_conv` does more, `post_quant_conv` undoes. So the configuration keeps
    Stable Diffusion's own scaling factor. The map is the symmetric one, the closest to changing nothing.
    """
    sample = as_tensor(opened(work, "scenes")[:512])
    with torch.no_grad():
        means = torch.cat([vae.encode(part).latent_dist.mean for part in sample.split(16)])
    flat = means.permute(0, 2, 3, 1).reshape(-1, 4).double()
    centre = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    whitening = vectors @ torch.diag(values.rsqrt()) @ vectors.T / LATENT_SCALE
    before, after = vae.quant_conv, vae.post_quant_conv
    with torch.no_grad():
        weight, bias = before.weight[:4, :, 0, 0].double(), before.bias[:4].double()
        out_weight, out_bias = after.weight[:, :, 0, 0].double(), after.bias.double()
        before.weight[:4, :, 0, 0] = (whitening @ weight).float()
        before.bias[:4] = (whitening @ (bias - centre)).float()
        before.bias[4:] += 2 * float(whitening.diagonal().mean().log())
        after.weight[:, :, 0, 0] = (out_weight @ torch.linalg.inv(whitening)).float()
        after.bias.copy_((out_bias + out_weight @ centre).float())
    return vae
