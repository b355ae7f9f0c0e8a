"""Scores pictures of known scenes without anything trained: it measures, draws the candidates and compares.

`SCORING.md` states every decision in words and numbers; the Rust suite follows the same page. Run as a program it
loads a diffusers folder, makes pictures for random prompts in fp32 on the CPU and prints the six figures and bars:

    python score.py ../../sdrest-worker/demo-model --count 200
    python score.py --truth            (the renderer's own pictures: everything must be 1.0)
"""

import argparse
import json
import math
import random
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from scenes import COLOURS, PALETTE, PLACES, SHAPES, SIDE_BY_SIDE, contains, extent, random_scene, render
from wording import plain

BARS = {"background": 0.99, "colour": 0.98, "place": 0.99, "size": 0.95, "shape": 0.96, "two": 0.85}
FAR = 45.0  # RGB distance from the background beyond which a pixel may belong to an item
SMALL_BELOW, LARGE_ABOVE = 0.175, 0.315  # radii halfway between the drawn ranges
PLACE_TOLERANCE = 0.12
GROWTHS = (1.0, 1.1, 1.2)
SCENE_SEED = 12345
_PALETTE = np.array([PALETTE[name] for name in COLOURS], np.float32)


@dataclass(frozen=True)
class Finding:
    """What one region of a picture shows; the item's fields are None where no item was found."""

    background: str
    colour: str | None = None
    shape: str | None = None
    x: float | None = None
    y: float | None = None
    half_side: float | None = None
    likeness: float = 0.0

    def radius_as(self, shape):
        """The radius that the renderer would have used for this shape to reach the measured bounding box."""
        left, top, right, bottom = extent(shape)
        return 2 * self.half_side / max(right - left, bottom - top)


def nearest_colour(rgb):
    """Name of the palette colour at the least Euclidean distance in RGB."""
    return COLOURS[int(((_PALETTE - rgb) ** 2).sum(1).argmin())]


def examine(picture, region=(0.0, 0.0, 1.0, 1.0)):
    """Measures a uint8 square RGB picture: its background, and the largest item inside the region."""
    side = picture.shape[0]
    pixels = picture.astype(np.float32)
    ground = _border_colour(pixels)
    window = np.zeros((side, side), bool)
    left, top, right, bottom = (int(v * side) for v in region)
    window[top:bottom, left:right] = True
    rough = largest_piece(window & (np.linalg.norm(pixels - ground, axis=-1) > FAR))
    name = nearest_colour(ground)
    if rough.sum() < 30:
        return Finding(name)
    ink = np.median(pixels[_core(rough)], axis=0)
    nearer = np.linalg.norm(pixels - ink, axis=-1) < np.linalg.norm(pixels - ground, axis=-1)
    piece = largest_piece(window & nearer)
    ys, xs = np.where(piece)
    box = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    if min(box[2] - box[0], box[3] - box[1]) < 6:
        return Finding(name, nearest_colour(ink))
    shape, likeness = most_alike(piece, box)
    x, y = (box[0] + box[2]) / 2 / side, (box[1] + box[3]) / 2 / side
    return Finding(name, nearest_colour(ink), shape, x, y, max(box[2] - box[0], box[3] - box[1]) / 2 / side, likeness)


def _border_colour(pixels):
    b = max(2, pixels.shape[0] // 32)
    strips = (pixels[:b], pixels[-b:], pixels[:, :b], pixels[:, -b:])
    return np.median(np.concatenate([strip.reshape(-1, 3) for strip in strips]), axis=0)


def _core(mask):
    """The mask without its outermost two pixels, as long as more than twenty remain: no blended edges."""
    core = mask
    for _ in range(2):
        padded = np.pad(core, 1)
        less = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if less.sum() <= 20:
            break
        core = less
    return core


def largest_piece(mask):
    """The largest 4-connected piece of a boolean mask (the first in reading order where two tie)."""
    height, width = mask.shape
    open_pixels = mask.copy()
    best = []
    for start in zip(*np.where(mask)):
        if not open_pixels[start]:
            continue
        open_pixels[start] = False
        piece, queue = [], deque([start])
        while queue:
            y, x = queue.popleft()
            piece.append((y, x))
            for spot in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= spot[0] < height and 0 <= spot[1] < width and open_pixels[spot]:
                    open_pixels[spot] = False
                    queue.append(spot)
        best = piece if len(piece) > len(best) else best
    result = np.zeros_like(mask)
    if best:
        result[tuple(np.array(best).T)] = True
    return result


def most_alike(piece, box):
    """The shape that, drawn into the same box or one slightly larger, overlaps the piece best.

    Larger boxes are tried because a soft picture loses the points of a star or a diamond first. A candidate whose
    own aspect ratio is not the box's loses up to half.
    """
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    ys, xs = np.mgrid[:piece.shape[0], :piece.shape[1]]
    best = ("", -1.0)
    for shape in SHAPES:
        x0, y0, x1, y1 = extent(shape)
        stretch = abs(math.log(wide / high * (y1 - y0) / (x1 - x0)))
        for growth in GROWTHS:
            u = ((xs + 0.5 - (left + right) / 2) / (wide * growth) + 0.5) * (x1 - x0) + x0
            v = ((ys + 0.5 - (top + bottom) / 2) / (high * growth) + 0.5) * (y1 - y0) + y0
            drawn = contains(shape, u, v)
            overlap = float((piece & drawn).sum() / (piece | drawn).sum())
            best = max(best, (shape, overlap * (1 - 0.5 * min(1.0, stretch))), key=lambda pair: pair[1])
    return best


def score(scenes, pictures):
    """Figures for pictures of the scenes: name → (share right, number judged). Empty scenes are not judged."""
    judged = {}
    for scene, picture in zip(scenes, pictures):
        for name, right in (judge_pair if scene.relation else judge_single)(scene, picture):
            judged.setdefault(name, []).append(bool(right))
    return {name: (float(np.mean(marks)), len(marks)) for name, marks in judged.items()}


def judge_single(scene, picture):
    """(figure, right?) for a scene with one item; place and size only where the caption names them."""
    found, item = examine(picture), scene.items[0]
    marks = [("background", found.background == scene.background), ("colour", found.colour == item.colour),
             ("shape", found.shape == item.shape)]
    marks.append(("all three", all(right for _, right in marks)))
    if scene.place:
        x, y = PLACES[scene.place]
        near = found.x is not None and max(abs(found.x - x), abs(found.y - y)) < PLACE_TOLERANCE
        marks.append(("place", near))
    if scene.size:
        radius = found.radius_as(item.shape) if found.half_side else None
        marks.append(("size", radius and (radius < SMALL_BELOW if scene.size == "small" else radius > LARGE_ABOVE)))
    return marks


def judge_pair(scene, picture):
    """(figure, right?) for a scene with two items, each looked for in its own half of the picture."""
    halves = [(0, 0, 0.5, 1), (0.5, 0, 1, 1)] if scene.relation in SIDE_BY_SIDE else [(0, 0, 1, 0.5), (0, 0.5, 1, 1)]
    if scene.relation == "below":
        halves.reverse()
    marks, whole = [("background", examine(picture).background == scene.background)], True
    for item, half in zip(scene.items, halves):
        found = examine(picture, half)
        colour, shape = found.colour == item.colour, found.shape == item.shape
        marks += [("two: colour", colour), ("two: shape", shape)]
        whole = whole and colour and shape and found.background == scene.background
    return marks + [("two", whole)]


def scoring_scenes(count, seed=SCENE_SEED):
    """The first `count` scenes with at least one item that this seed draws."""
    rng, scenes = random.Random(seed), []
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes += [scene] if scene.items else []
    return scenes


def listing(scenes):
    """The scenes as JSON for readers that do not run Python: the prompt and what its picture must show."""
    fields = ("shape", "colour")
    rows = [{"prompt": plain(s), "background": s.background, "relation": s.relation, "size": s.size, "place": s.place,
             "items": [{name: getattr(item, name) for name in fields} for item in s.items]} for s in scenes]
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def generate(model, scenes, args):
    """Pictures by diffusers' own pipeline, fp32 on the CPU; picture i has seed `args.seed + i`."""
    import torch
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

    torch.set_num_threads(args.threads)
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    kind = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}[args.scheduler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    pictures = []
    for at in range(0, len(scenes), 10):
        prompts = [plain(scene) for scene in scenes[at:at + 10]]
        seeds = [torch.Generator().manual_seed(args.seed + at + i) for i in range(len(prompts))]
        made = pipe(prompts, height=128, width=128, num_inference_steps=args.steps, guidance_scale=args.guidance,
                    generator=seeds, output_type="np").images
        pictures += list((made * 255).round().astype(np.uint8))
    return pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a diffusers folder")
    parser.add_argument("--truth", action="store_true", help="score the renderer's own pictures instead")
    parser.add_argument("--list", action="store_true", help="only print the scenes as JSON (see prompts.json)")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--scheduler", choices=["ddim", "euler"], default="ddim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if not (args.truth or args.list or args.model):
        parser.error("name a model folder, or give --truth or --list")
    scenes, start = scoring_scenes(args.count), time.time()
    if args.list:
        print(listing(scenes))
        return
    rng = random.Random(1)
    pictures = [render(s, 128, rng) for s in scenes] if args.truth else generate(args.model, scenes, args)
    figures = score(scenes, pictures)
    for name, (share, judged) in figures.items():
        bar = f"  bar {BARS[name]:.2f} {'met' if share >= BARS[name] else 'MISSED'}" if name in BARS else ""
        print(f"{name:12s} {share:.3f} of {judged}{bar}")
    print(f"{len(scenes)} pictures in {time.time() - start:.0f} s")
    if args.json:
        with open(args.json, "w") as out:
            json.dump(figures, out, indent=1)


if __name__ == "__main__":
    main()
