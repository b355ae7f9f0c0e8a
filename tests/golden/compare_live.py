"""Makes the tiny models and the references anew, in a temporary folder, and compares them with the committed
ones: they are what HF diffusers gives today, and nobody has edited them by hand.

    python compare_live.py

Needs the versions that `reference.py` names. Token ids, configurations and refusals must be equal, tensors
within 1e-5 relative (another processor sums and rounds in another way), pictures at most one level apart. Prints
each difference and ends with status 1 if there is one. Writes nothing outside the temporary folder.
"""

import json
import pathlib
import sys
import tempfile

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file

import make_models
import make_references
import reference

BOUND = 1e-5


class Comparison:
    def __init__(self):
        self.compared, self.failures, self.worst = 0, [], 0.0

    def check(self, place, good, said):
        self.compared += 1
        if not good:
            self.failures.append(f"{place}: {said}")

    def tensors(self, place, made, kept):
        self.check(place, made.keys() == kept.keys(), f"names differ: {sorted(made.keys() ^ kept.keys())[:5]}")
        for name in made.keys() & kept.keys():
            a, b = made[name], kept[name]
            if a.shape != b.shape or a.dtype != b.dtype:
                self.check(f"{place} {name}", False, f"{a.dtype} {a.shape}, committed {b.dtype} {b.shape}")
            elif not a.dtype.is_floating_point:
                most = 1 if a.dtype == torch.uint8 else 0
                apart = (a.long() - b.long()).abs().max().item()
                self.check(f"{place} {name}", apart <= most, f"{apart} apart")
            else:
                a, b = a.double(), b.double()
                error = 0.0 if torch.equal(a, b) else ((a - b).norm() / b.norm()).item()
                self.worst = max(self.worst, error)
                self.check(f"{place} {name}", error <= BOUND, f"relative error {error:.2e}")

    def json(self, place, made, kept):
        self.check(place, made == kept, "differs")


def relative_files(folder, pattern):
    return {file.relative_to(folder) for file in folder.rglob(pattern)}


def compare_folders(comparison, made, kept, passed_over=()):
    """Every safetensors and JSON file under two folders."""
    for pattern in ("*.safetensors", "*.json"):
        ours, theirs = relative_files(made, pattern), relative_files(kept, pattern)
        comparison.check(pattern, ours == theirs, f"files differ: {sorted(map(str, ours ^ theirs))[:5]}")
        for file in sorted(ours & theirs):
            if str(file) in passed_over:
                continue
            if pattern == "*.json":
                comparison.json(file, json.loads((made / file).read_text()), json.loads((kept / file).read_text()))
            else:
                comparison.tensors(file, load_file(made / file), load_file(kept / file))


def picture(folder, case):
    pixels = numpy.asarray(Image.open(folder / "pictures" / case["file"]))
    return pixels[: case["num_images"] * case["height"]].astype(int)


def compare_pictures(comparison, made, kept):
    """By case, since which runs share a file may differ."""
    ours, theirs = (json.loads((folder / "pictures.json").read_text()) for folder in (made, kept))
    comparison.check("pictures.json", len(ours) == len(theirs), f"{len(ours)} cases, committed {len(theirs)}")
    for a, b in zip(ours, theirs):
        same = {**a, "file": ""} == {**b, "file": ""}
        comparison.check("pictures.json", same, f"{a} is not {b}")
        if same:
            apart = numpy.abs(picture(made, a) - picture(kept, b)).max()
            comparison.check(f"{b['file']} ({b['num_images']})", apart <= 1, f"{apart} levels apart")


def main():
    reference.prepare()
    comparison = Comparison()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for seed, name in enumerate(make_models.SHAPES):
            make_models.make(name, seed, folder / "models" / name)
        compare_folders(comparison, folder / "models", reference.HERE / "models")
        # The references are made with the committed models, whatever came of the comparison above.
        make_references.make(folder / "data")
        kept = reference.HERE / "data"
        compare_folders(comparison, folder / "data", kept, passed_over=("pictures.json",))
        compare_pictures(comparison, folder / "data", kept)
    print(f"{comparison.compared} comparisons, worst relative error {comparison.worst:.2e}")
    for failure in comparison.failures:
        print(f"FAILED {failure}")
    sys.exit(1 if comparison.failures else 0)


if __name__ == "__main__":
    main()
