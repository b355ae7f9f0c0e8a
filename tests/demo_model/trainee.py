"""What both training loops share: weights, their moving average, the optimiser, the step count and its checkpoint.

A checkpoint holds everything that the next step depends on, and each step draws its randomness from its own number,
so a resumed run continues the same sequence. Files are replaced whole: a kill in the middle leaves the older one.
SIGTERM and SIGINT ask for one more checkpoint and a clean end.
"""

import math
import os
import signal
import time

import torch

SAVE_EVERY = 200
_stop = {"asked": False}


def listen_for_stop():
    """From now on SIGTERM and SIGINT only ask the loop to save and end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop.update(asked=True))


def save(path, state):
    """Writes a checkpoint beside its place and moves it there."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path):
    """Reads a checkpoint on the CPU; tensors and plain values only."""
    return torch.load(path, map_location="cpu", weights_only=True)


class Stopped(Exception):
    """A signal asked for the end; the checkpoint has been written."""


class Trainee:
    """Named modules in training for a fixed number of steps, from a checkpoint where there is one."""

    def __init__(self, path, modules, plan):
        self.path, self.modules, self.plan, self.step = path, modules, plan, 0
        self.weights = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.weights, lr=plan.rate, betas=(0.9, 0.99), weight_decay=plan.decay,
                                           fused=True)
        self.average = {n: {k: v.detach().clone() for k, v in m.state_dict().items()} for n, m in modules.items()}
        self.losses, self.started, self.done_here = [], time.time(), 0
        if path.exists():
            self._resume(load(path))

    def _resume(self, state):
        self.step = state["step"]
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            group["fused"] = True  # an older checkpoint names the slower form
        for name, module in self.modules.items():
            module.load_state_dict(state["live"][name])
            for key, value in self.average[name].items():
                value.copy_(state["average"][name][key])
        print(f"{self.path.name}: resumed at step {self.step} of {self.plan.steps}", flush=True)

    def unfinished(self):
        """True while steps remain."""
        return self.step < self.plan.steps

    def advance(self, loss):
        """One optimiser step on this loss, with the learning rate that the step's number gives."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * self._rate_share()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()
        self.step += 1
        self.done_here += 1
        self._follow()
        self.losses.append(loss.detach())
        if self.step % 50 == 0:
            self._report()
        if self.step % SAVE_EVERY == 0 or not self.unfinished() or _stop["asked"]:
            self._save()
        if _stop["asked"]:
            raise Stopped(f"{self.path.name} saved at step {self.step}")

    def _rate_share(self):
        """A short warm-up, then the full rate, then a half cosine down to 2 % over the plan's last `cooling` steps."""
        into = max(0, self.step - (self.plan.steps - self.plan.cooling)) / self.plan.cooling
        cosine = 0.5 * (1 + math.cos(math.pi * into))
        return min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * cosine)

    def _follow(self):
        keep = min(self.plan.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, module in self.modules.items():
                for key, value in module.state_dict().items():
                    if value.is_floating_point():
                        self.average[name][key].lerp_(value, 1 - keep)

    def _report(self):
        mean = torch.stack(self.losses).mean().item()
        pace = (time.time() - self.started) / self.done_here
        self.losses.clear()
        print(f"{self.path.name}: step {self.step} of {self.plan.steps}, loss {mean:.4f}, {pace:.2f} s a step", flush=True)

    def _save(self):
        live = {name: module.state_dict() for name, module in self.modules.items()}
        save(self.path, {"step": self.step, "steps": self.plan.steps, "live": live, "average": self.average,
                         "optimiser": self.optimiser.state_dict()})
