#!/usr/bin/env python3
"""Runs every suite of sdrest and prints seconds per suite and the totals.

Builds the programs and the test binaries once, in the release profile, then runs each binary. A suite fails
where a test fails, where fewer tests ran than the binary lists, or where a skip has no reason: a skipped
test prints a line `SKIPPED: REASON`, which is repeated here, as is what a fuzz target did. `--full` adds what takes
longer than CI has.
"""
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Unit tests of a package run as the suite of its name; tests/ has one binary per suite.
FULL_ONLY = {"gpu"}
# Seconds for one test binary; one that hangs has no result line, and so has failed.
PATIENCE = 2700
# Each target of a fuzz binary runs for this long, in the CI size and in the full one, and on a busy machine for up to
# this many times as long (tests/fuzz/campaign.rs).
FUZZ_SECONDS = {"ci": 30, "full": 600}
FUZZ_BUSY = 20
# Lines of a passing test that are worth repeating.
NOTES = ("skipped: ", "fuzz: ")
RESULT = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")


def build():
    """Compiles everything and returns (package, target, executable) of each test binary."""
    print("build: programs and tests", flush=True)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bins"], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "-p", "sdrest-conversation", "--no-default-features",
                    "--target-dir", "target/no-pam"], cwd=ROOT, check=True)
    answer = subprocess.run(
        ["cargo", "test", "--release", "--workspace", "--no-run", "--message-format=json-render-diagnostics"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    binaries = []
    for line in answer.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("profile", {}).get("test") and message.get("executable"):
            package = re.split(r"[#@]", message["package_id"].rsplit("/", 1)[-1])[0]
            binaries.append((package, message["target"]["name"], message["executable"]))
    return sorted(binaries)


def suite_of(package, target):
    return target if package == "tests" else package


def listed(executable, environment):
    answer = subprocess.run([executable, "--list"], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return sum(line.endswith(": test") for line in answer.stdout.splitlines())


def run(executable, environment):
    """Runs one binary; returns passed, failed, ignored, lines worth repeating."""
    expected = listed(executable, environment)
    patience = PATIENCE
    if "/fuzz-" in executable:
        seconds = int(environment.get("SDREST_FUZZ_SECONDS", FUZZ_SECONDS[environment["SDREST_TESTS"]]))
        patience += expected * seconds * FUZZ_BUSY
    answer = subprocess.run(["timeout", "--kill-after=30", str(patience), executable, "--show-output"], cwd=ROOT,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    # The last one: a test may show the output of a test binary that it ran itself.
    results = RESULT.findall(answer.stdout)
    passed, failed, ignored = map(int, results[-1]) if results else (0, 1, 0)
    notes = sorted({line.strip() for line in answer.stdout.splitlines() if line.strip().lower().startswith(NOTES)})
    if failed or answer.returncode:
        print(answer.stdout)
        failed = max(failed, 1)
    if passed + failed + ignored < expected:
        print(f"{executable}: lists {expected} tests but ran {passed + failed + ignored}")
        failed += 1
    return passed, failed, ignored, notes


def main():
    full = "--full" in sys.argv
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")]
    binaries = build()
    environment = dict(os.environ, SDREST_TESTS="full" if full else "ci")
    totals = {}
    for package, target, executable in binaries:
        suite = suite_of(package, target)
        if (suite in FULL_ONLY and not full) or (chosen and suite not in chosen):
            continue
        started = time.time()
        passed, failed, ignored, notes = run(executable, environment)
        seconds = time.time() - started
        old = totals.get(suite, (0, 0, 0, 0.0))
        totals[suite] = (old[0] + passed, old[1] + failed, old[2] + ignored, old[3] + seconds)
        for note in notes:
            print(f"{suite}: {note}")
        print(f"{suite}/{target}: {passed} passed, {failed} failed, {ignored} ignored, {seconds:.1f} s", flush=True)
    if full and not chosen:
        totals["live goldens"] = script("tests/golden/compare_live.py")
    print(f"\n{'suite':<24}{'passed':>8}{'failed':>8}{'ignored':>9}{'seconds':>10}")
    for suite, (passed, failed, ignored, seconds) in sorted(totals.items()):
        print(f"{suite:<24}{passed:>8}{failed:>8}{ignored:>9}{seconds:>10.1f}")
    passed, failed, ignored = (sum(row[i] for row in totals.values()) for i in range(3))
    print(f"\n{passed} passed, {failed} failed, {ignored} skipped")
    return 1 if failed or not passed else 0


def script(path):
    """A suite that is a Python program: one test, passed where it ends with 0."""
    started = time.time()
    code = subprocess.run([sys.executable, os.path.join(ROOT, path)], cwd=ROOT).returncode
    return (int(code == 0), int(code != 0), 0, time.time() - started)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"run.py: {' '.join(map(str, error.cmd))} failed with {error.returncode}")
