"""The demo model's little world: flat shapes in twelve colours on a plain background.

A scene is data first (`Scene`, `Item`), a picture second (`render`). Coordinates and radii are fractions of the
picture's side, y grows downwards. Everything random comes from the `random.Random` that the caller passes, so the
same seed gives the same scenes on every machine. The scorer uses this file's palette and outlines too: `SCORING.md`
gives the same numbers for readers who do not run Python. This file must never depend on torch.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

PALETTE = {
    "red": (220, 35, 35),
    "green": (40, 165, 60),
    "blue": (40, 70, 220),
    "yellow": (250, 225, 50),
    "orange": (245, 135, 25),
    "purple": (135, 45, 180),
    "pink": (250, 150, 195),
    "brown": (125, 75, 40),
    "black": (18, 18, 18),
    "white": (250, 250, 250),
    "gray": (135, 135, 135),
    "teal": (60, 205, 215),
}
COLOURS = list(PALETTE)
SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring"]
PLACES = {
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
    "center": (0.5, 0.5),
    "top left": (0.27, 0.27),
    "top right": (0.73, 0.27),
    "bottom left": (0.27, 0.73),
    "bottom right": (0.73, 0.73),
}
SIDE_BY_SIDE = ("and", "next to")
RELATIONS = ("and", "and", "next to", "above", "below")
# Radii drawn for each size word; None is the middle range of a scene that names no size.
RADII = {"small": (0.11, 0.15), None: (0.20, 0.29), "large": (0.34, 0.42)}
RADII_WITH_PLACE = (0.15, 0.24)
ROUND = {"circle": (0.97, 0.0), "ring": (0.97, 0.56)}  # outer and inner radius


@dataclass(frozen=True)
class Item:
    """One shape: what it is, its palette colour, its centre and its radius."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """A background and up to two items; `relation`, `size` and `place` hold the words a caption may say of them."""

    background: str
    items: tuple
    relation: str | None = None
    size: str | None = None
    place: str | None = None


def outline(shape):
    """The polygon's corners in the unit square [-1, 1]², or None for circle and ring, which are not polygons."""
    if shape == "square":
        return [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    if shape == "triangle":
        return [(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)]
    if shape == "diamond":
        return [(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)]
    if shape == "cross":
        a = 0.32
        arm = [(-a, -1.0), (a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a)]
        return arm + [(-x, -y) for x, y in arm]
    if shape == "star":
        reach = [1.0 if i % 2 == 0 else 0.42 for i in range(10)]
        return [(r * math.sin(i * math.pi / 5), 0.06 - r * math.cos(i * math.pi / 5)) for i, r in enumerate(reach)]
    if shape == "heart":
        return [_heart_point(2 * math.pi * i / 48) for i in range(48)]
    return None


def _heart_point(t):
    """One point of the usual heart curve, scaled to the unit square."""
    height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return math.sin(t) ** 3, -height / 16.5 - 0.08


def extent(shape):
    """The shape's bounding box (left, top, right, bottom) in the unit square."""
    if shape in ROUND:
        outer = ROUND[shape][0]
        return -outer, -outer, outer, outer
    xs, ys = zip(*outline(shape))
    return min(xs), min(ys), max(xs), max(ys)


def contains(shape, x, y):
    """Boolean array: which points of the unit square lie inside the shape (even-odd rule)."""
    if shape in ROUND:
        outer, inner = ROUND[shape]
        distance = np.hypot(x, y)
        return (distance <= outer) & (distance >= inner)
    inside = np.zeros(np.broadcast(x, y).shape, bool)
    corners = outline(shape)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def coverage(item, side, oversample=4):
    """How much of each pixel the item covers, side × side in [0, 1]; PIL draws it larger, a box filter shrinks it."""
    n = side * oversample
    canvas = Image.new("L", (n, n), 0)
    pen = ImageDraw.Draw(canvas)
    if item.shape in ROUND:
        for reach, ink in zip(ROUND[item.shape], (255, 0)):
            q = reach * item.radius
            if q > 0:
                box = [(item.x - q) * n, (item.y - q) * n, (item.x + q) * n - 1, (item.y + q) * n - 1]
                pen.ellipse(box, fill=ink)
    else:
        corners = [((item.x + u * item.radius) * n, (item.y + v * item.radius) * n) for u, v in outline(item.shape)]
        pen.polygon(corners, fill=255)
    return np.asarray(canvas.resize((side, side), Image.BOX), np.float32) / 255.0


def random_scene(rng):
    """Draws one scene: 2 % empty, a quarter with two items, the rest with one; a third of the backgrounds white."""
    dice = rng.random()
    background = rng.choice(COLOURS) if rng.random() < 0.75 else "white"
    if dice < 0.02:
        return Scene(background, ())
    return _two_items(rng, background) if dice < 0.27 else _one_item(rng, background)


def _one_item(rng, background):
    size = rng.choice([None, None, None, "small", "large"])
    place = rng.choice(list(PLACES)) if rng.random() < 0.45 else None
    off_centre = place not in (None, "center")
    if size == "large" and off_centre:
        size = None
    low, high = RADII_WITH_PLACE if off_centre and size is None else RADII[size]
    jitter = 0.02 if place or size == "large" else 0.08
    x, y = PLACES[place or "center"]
    item = _item(rng, background, (x, y, jitter), (low, high))
    return Scene(background, (item,), size=size, place=place)


def _two_items(rng, background):
    relation = rng.choice(RELATIONS)
    items = []
    for first in (True, False):
        # "above" names the upper item first and "below" the lower one; the other relations read left to right.
        step = -0.23 if first != (relation == "below") else 0.23
        x, y = (0.5 + step, 0.5) if relation in SIDE_BY_SIDE else (0.5, 0.5 + step)
        items.append(_item(rng, background, (x, y, 0.03), (0.15, 0.21)))
    return Scene(background, tuple(items), relation=relation)


def _item(rng, background, spot, radii):
    x, y, jitter = spot
    shape = rng.choice(SHAPES)
    colour = rng.choice([c for c in COLOURS if c != background])
    shift = rng.uniform(-jitter, jitter), rng.uniform(-jitter, jitter)
    return Item(shape, colour, x + shift[0], y + shift[1], rng.uniform(*radii))


def render(scene, side, rng=None):
    """The scene as uint8 side × side × 3; with `rng`, every colour is off by up to five levels a channel."""

    def ink(name):
        noise = [rng.uniform(-5, 5) for _ in range(3)] if rng else 0.0
        return np.array(PALETTE[name], np.float32) + np.array(noise, np.float32)

    return _paint(ink(scene.background), [(item, ink(item.colour)) for item in scene.items], side)


def render_collage(side, rng):
    """A picture for the VAE only: three to seven shapes anywhere, half of them in colours outside the palette.

    Without these the VAE learns to code colour once for a whole picture and small items come out grey.
    """

    def ink():
        free = [rng.uniform(0, 255) for _ in range(3)]
        return np.array(PALETTE[rng.choice(COLOURS)] if rng.random() < 0.5 else free, np.float32)

    painted = []
    background = ink()
    for _ in range(rng.randint(3, 7)):
        spot = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.3)
        painted.append((Item(rng.choice(SHAPES), "", *spot), ink()))
    return _paint(background, painted, side)


def _paint(background, painted, side):
    picture = np.ones((side, side, 3), np.float32) * background
    for item, ink in painted:
        cover = coverage(item, side)[..., None]
        picture = picture * (1 - cover) + ink * cover
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
