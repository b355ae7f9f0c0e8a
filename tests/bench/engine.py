"""Steps HF diffusers and sdrest's worker in turn, in one run on the same weights, and compares CPU seconds.

Both are programs that answer one JSON line to each line on their standard input: `unet N` runs N UNet steps
with classifier-free guidance (batch 2), `image` draws one whole picture, `quit` ends. A round asks each once;
the order turns from round to round, so that what else the machine does falls on both.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Contestant:
    """One program under measurement."""

    def __init__(self, name, command, environment):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **environment})
        self.start = self.answer()
        self.samples = {}

    def answer(self):
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"bench: {self.name} ended with {self.process.wait()}")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def take(self, command):
        self.samples.setdefault(command, []).append(self.ask(command)["cpu"])

    def stop(self):
        peak = self.ask("memory")["peak_mb"]
        self.process.stdin.close()
        self.process.wait()
        return peak


def contestants(python, model, size, threads, ours):
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    peer = [python, os.path.join(HERE, "peer_diffusers.py"), "--model", model, "--size", str(size), "--threads", str(threads)]
    mine = [ours, "--model", model, "--size", str(size), "--threads", str(threads)]
    return Contestant("diffusers eager", peer, environment), Contestant("sdrest-worker", mine, environment)


def median_ratio(peer, mine, command):
    """Median of the peer's CPU seconds over ours: above 1 we are faster."""
    return statistics.median(peer.samples[command]) / statistics.median(mine.samples[command])


def compare(python, ours, model, size, rounds, commands, threads=1):
    """Runs the rounds and returns rows for the table."""
    peer, mine = contestants(python, model, size, threads, ours)
    for command in commands:
        peer.ask(command)
        mine.ask(command)
    for turn in range(rounds):
        for command in commands:
            for who in ((peer, mine) if turn % 2 == 0 else (mine, peer)):
                who.take(command)
    rows = []
    for command in commands:
        a, b = statistics.median(peer.samples[command]), statistics.median(mine.samples[command])
        rows.append({"what": command, "size": size, "peer_cpu_s": a, "ours_cpu_s": b, "ratio": a / b, "samples": rounds})
    start = {"what": "open to first step", "size": size, "peer_cpu_s": peer.start["open_wall"],
             "ours_cpu_s": mine.start["open_wall"], "ratio": peer.start["open_wall"] / mine.start["open_wall"], "samples": 1}
    peaks = {"what": "peak memory, MB", "size": size, "peer_cpu_s": peer.stop(), "ours_cpu_s": mine.stop(), "samples": 1}
    peaks["ratio"] = peaks["peer_cpu_s"] / peaks["ours_cpu_s"]
    return [*rows, start, peaks]


def openings(python, ours, model, size, rounds, threads=1):
    """Open to first step possible with a warm page cache, imports excluded; each program afresh, in turn."""
    peers, mines = [], []
    for _ in range(rounds + 1):
        peer, mine = contestants(python, model, size, threads, ours)
        peers.append(peer.start["open_wall"])
        mines.append(mine.start["open_wall"])
        peer.stop()
        mine.stop()
    # The first round warmed the page cache.
    a, b = statistics.median(peers[1:]), statistics.median(mines[1:])
    return {"what": "open to first step", "size": size, "peer_cpu_s": a, "ours_cpu_s": b, "ratio": a / b, "samples": rounds}


def cpu_model():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
