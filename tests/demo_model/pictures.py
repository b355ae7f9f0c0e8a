"""The training pictures on disk: scenes and collages, drawn once into memory-mapped arrays in the work folder.

Picture i depends only on its kind and on i, so a run that was interrupted goes on where it stopped and gives the same
bytes. About 1.6 GB in all.
"""

import json
import random
import time

import numpy as np
import torch

from scenes import random_scene, render, render_collage

SCENES, COLLAGES, SIDE = 24000, 8000, 128
TEST_SEED = 999


def scene(index):
    """The training scene with this number."""
    return random_scene(random.Random(f"scene {index}"))


def test_scenes(count=400):
    """Scenes for judging the VAE; never trained on."""
    rng, found = random.Random(TEST_SEED), []
    while len(found) < count:
        drawn = random_scene(rng)
        found += [drawn] if drawn.items else []
    return found


def draw_scene(index):
    """The training picture of the scene with this number, colours slightly off."""
    return render(scene(index), SIDE, random.Random(f"ink {index}"))


def draw_collage(index):
    """The collage with this number."""
    return render_collage(SIDE, random.Random(f"collage {index}"))


def prepare(work):
    """Draws what is missing of both arrays."""
    _fill(work, "scenes", SCENES, draw_scene)
    _fill(work, "collages", COLLAGES, draw_collage)


def _fill(work, name, count, draw):
    path, mark = work / f"{name}.npy", work / f"{name}.json"
    done = json.loads(mark.read_text())["done"] if mark.exists() else 0
    if done == count:
        return
    mode = "r+" if done else "w+"
    array = np.lib.format.open_memmap(path, mode, np.uint8, (count, SIDE, SIDE, 3))
    start = time.time()
    for index in range(done, count):
        array[index] = draw(index)
        if (index + 1) % 1000 == 0 or index + 1 == count:
            array.flush()
            mark.write_text(json.dumps({"done": index + 1}))
            print(f"{name}: {index + 1} of {count} drawn, {time.time() - start:.0f} s", flush=True)


def opened(work, name):
    """The array of this name, read-only and memory-mapped."""
    return np.load(work / f"{name}.npy", mmap_mode="r")


def as_tensor(batch):
    """uint8 NHWC pictures as float NCHW in [-1, 1]."""
    return torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_pictures(tensor):
    """The way back: float NCHW in [-1, 1] as uint8 NHWC."""
    return ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
