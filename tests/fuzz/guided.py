#!/usr/bin/env python3
"""Runs the fuzz targets guided by which branches an input reaches: `make fuzz SECONDS=600 [TARGETS="names json"]`.

Builds both fuzz binaries with the compiler of the project, in a target folder of their own (instrument.sh says how), and
runs each target in a process of its own, as many at once as there are processors. What each finds lies in
TARGET/corpus: `found-…` files may be copied into the committed corpus. Ends with 1 where a target failed.
"""
import concurrent.futures
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "tests", "fuzz")
TARGET = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "fuzz")
PACKAGES = {"sdrest-tests": "tests", "sdrest-api": "sdrest-api"}
# A campaign says by itself when it had to wait too long (campaign.rs); this is for a process that says nothing.
PATIENCE = 25


def build():
    """The two binaries, each with the folder that it runs in."""
    os.makedirs(TARGET, exist_ok=True)
    runtime = os.path.join(TARGET, "counters.o")
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-fPIC", "-c", os.path.join(HERE, "counters.c"), "-o", runtime], check=True)
    environment = dict(os.environ, SDREST_FUZZ_RUNTIME=runtime, RUSTC_WORKSPACE_WRAPPER=os.path.join(HERE, "instrument.sh"))
    binaries = []
    for package, folder in PACKAGES.items():
        answer = subprocess.run(
            ["cargo", "test", "--release", "-p", package, "--test", "fuzz", "--no-run", "--target-dir", TARGET,
             "--message-format=json-render-diagnostics"],
            cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for message in map(json.loads, answer.stdout.splitlines()):
            if message.get("executable") and message["target"]["name"] == "fuzz":
                binaries.append((message["executable"], os.path.join(ROOT, folder)))
    return binaries


def targets(binary, folder):
    """Tests of the binary that are targets: those that have inputs."""
    listed = subprocess.run([binary, "--list"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
    return [name for name in names if name.split("::")[0] in ("targets", "headers", "requests") and "every_folder" not in name]


def run(binary, folder, target, seconds):
    environment = dict(os.environ, SDREST_TESTS="full", SDREST_FUZZ_SECONDS=str(seconds),
                       SDREST_FUZZ_FOUND=os.path.join(TARGET, "corpus"))
    answer = subprocess.run(["timeout", "--kill-after=30", str(seconds * PATIENCE + 600), binary, "--exact", "--nocapture", target],
                            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    good = answer.returncode == 0 and "1 passed" in answer.stdout
    told = [line[line.index("fuzz: "):] for line in answer.stdout.splitlines() if "fuzz: " in line]
    print("\n".join(told) if good else answer.stdout, flush=True)
    return good


def main():
    seconds = int(os.environ.get("SECONDS_EACH", "600"))
    chosen = os.environ.get("TARGETS", "").split()
    work = [(binary, folder, target) for binary, folder in build() for target in targets(binary, folder)
            if not chosen or target.split("::")[-1] in chosen]
    if not work:
        sys.exit(f"no target is called {' or '.join(chosen)}")
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
        ended = list(pool.map(lambda one: run(*one, seconds), work))
    print(f"{sum(ended)} of {len(ended)} targets passed; what they found lies in {TARGET}/corpus")
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
