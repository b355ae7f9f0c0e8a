#!/usr/bin/env python3
"""`make bench`: sdrest's worker against HF diffusers eager in float32, what the server adds to the engine, and sign-ins.

Runs everything interleaved in one run and prints tables. The peer needs torch 2.11.0, diffusers 0.42.1 and
transformers 5.23.0: SDREST_PYTHON names a Python that has them, else they are installed into .cache/bench
(5 GB). `run.py --write FILE` also writes the figures as JSON.
"""
import json
import os
import platform
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(ROOT, ".cache", "bench")
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
DEMO = os.path.join(ROOT, "sdrest-worker", "demo-model")
PACKAGES = ["torch==2.11.0", "diffusers==0.42.1", "transformers==5.23.0", "accelerate"]

sys.path.insert(0, HERE)
import engine  # noqa: E402
import logins  # noqa: E402
import overhead  # noqa: E402


def python_with_diffusers():
    """The Python that runs the peer."""
    named = os.environ.get("SDREST_PYTHON")
    if named:
        return named
    venv = os.path.join(CACHE, "venv")
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(os.path.join(venv, ".complete")):
        print("bench: installing the peer (torch, diffusers) into .cache/bench, once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        open(os.path.join(venv, ".complete"), "w").close()
    return python


def full_size_model(python):
    model = os.environ.get("SDREST_SD15", os.path.join(CACHE, "random-sd15"))
    if not os.path.exists(os.path.join(model, "model_index.json")):
        print("bench: making a full-size Stable Diffusion 1.5 with random weights (4.3 GB)", flush=True)
        subprocess.run([python, os.path.join(HERE, "random_sd15.py"), model, os.path.join(DEMO, "tokenizer")], check=True)
    return model


def main():
    python = python_with_diffusers()
    ours = os.path.join(RELEASE, "sdrest-bench")
    rows = []
    for name, model, size, rounds, commands in (
            ("demo model", DEMO, 128, 15, ["unet 5", "image"]),
            ("random SD 1.5", full_size_model(python), 256, 5, ["unet 1"])):
        print(f"bench: {name} at {size}², {rounds} rounds", flush=True)
        rows += [{"model": name, **row} for row in engine.compare(python, ours, model, size, rounds, commands)
                 if row["what"] != "open to first step"]
        rows.append({"model": name, **engine.openings(python, ours, model, size, 5)})
    print(f"\n{'model':<15}{'what':<22}{'size':>5}{'diffusers':>12}{'sdrest':>12}{'ratio':>8}{'n':>4}")
    for row in rows:
        print(f"{row['model']:<15}{row['what']:<22}{row['size']:>5}{row['peer_cpu_s']:>12.4f}{row['ours_cpu_s']:>12.4f}"
              f"{row['ratio']:>7.2f}x{row['samples']:>4}")
    print("(CPU seconds, medians, one thread, float32; opening in wall seconds with a warm page cache)\n")
    added = overhead.measure(RELEASE)
    overhead.show(added)
    signing_in = logins.measure(RELEASE) if os.geteuid() == 0 else None
    if signing_in:
        logins.show(signing_in)
    else:
        print("sign-ins are measured as root only")
    subprocess.run(["cargo", "bench", "--quiet", "-p", "sdrest-api", "--bench", "verify"], cwd=ROOT, check=True)
    if "--write" in sys.argv:
        path = sys.argv[sys.argv.index("--write") + 1]
        with open(path, "w") as file:
            json.dump({"date": time.strftime("%Y-%m-%d"), "cpu": engine.cpu_model(), "cores": os.cpu_count(),
                       "kernel": platform.release(), "engine": rows, "overhead": added, "sign_ins": signing_in}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
