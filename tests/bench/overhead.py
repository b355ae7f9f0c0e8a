"""What HTTP, authentication, queue, store, sockets and PNG add to the engine's own time.

Starts the whole server (PAM sign-in, sandboxes, own users as root) over a made-up /etc twice, with the store on tmpfs
and on disk, and asks the two in turn for small pictures with `Prefer: wait`. From each answer's time the engine's own
is subtracted, which the front end logs for each job. Between them the disk is asked what three commits and one blob
cost it without any server, at the pace of a job: a disk that has rested for a picture's time takes half as long again.
"""
import os
import statistics
import sys
import tempfile
import time

from server import ROOT, Running, state_folder

REQUESTS = 60
WARM = 10
# Requests to one before it is the other's turn.
BLOCK = 10
PASSWORD = "a bench password"
BODY = {"prompt": "a red circle on a white background", "steps": 1, "cfg_scale": 1.0, "width": 128, "height": 128}
# About what a picture of these takes, in seconds.
PICTURE = 0.04
# Bytes that a commit appends to SQLite's write-ahead log at least, and a small picture's file has.
COMMIT, BLOB = 4 * 4120, 13_000


class Asked:
    """A server, and what it took for each job."""

    def __init__(self, release, parent):
        uid = 20000 if os.geteuid() == 0 else os.getuid()
        self.server = Running(release, state_folder(parent), f"artist {uid} ok {PASSWORD}\n")
        self.token = self.server.post("/api/v1/auth/login", {"username": "artist", "password": PASSWORD})["token"]
        self.walls = {}

    def ask(self, seed):
        answer, wall = self.server.timed("/api/v1/txt2img", {**BODY, "seed": seed}, self.token)
        if answer["job"]["state"] != "done":
            sys.exit(f"bench: a job ended {answer['job']['state']}")
        # The first ones load the model and warm every cache.
        if seed >= WARM:
            self.walls[answer["job"]["id"]] = wall

    def stop(self):
        """(what the server added, the engine's own), each in milliseconds."""
        engine = self.server.stop()
        return [wall - engine[job] for job, wall in self.walls.items()], [engine[job] for job in self.walls]


class Disk:
    """The disk's own price for what a job has to make durable: three commits and one blob."""

    def __init__(self, folder):
        self.folder = tempfile.TemporaryDirectory(dir=folder)
        self.log = os.open(os.path.join(self.folder.name, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.names = os.open(self.folder.name, os.O_RDONLY | os.O_DIRECTORY)
        self.commits, self.blobs = [], []

    def commit(self):
        """What one cost, in milliseconds."""
        begun = time.perf_counter()
        os.write(self.log, os.urandom(COMMIT))
        os.fdatasync(self.log)
        return (time.perf_counter() - begun) * 1000

    def ask(self, number):
        commits = self.commit() + self.commit()
        time.sleep(PICTURE)
        between = time.perf_counter()
        final = os.path.join(self.folder.name, str(number))
        blob = os.open(final + ".partial", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(blob, os.urandom(BLOB))
        os.fsync(blob)
        os.close(blob)
        os.rename(final + ".partial", final)
        os.fsync(self.names)
        self.blobs.append((time.perf_counter() - between) * 1000)
        self.commits.append(commits + self.commit())

    def price(self):
        return statistics.median(self.commits) + statistics.median(self.blobs)


def spread(values):
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p90": ordered[len(ordered) * 9 // 10], "n": len(ordered)}


def ticks():
    """(taken away by the host of this machine, all), since it was started: proc_stat(5)."""
    with open("/proc/stat") as file:
        values = [int(value) for value in file.readline().split()[1:9]]
    return values[7], sum(values)


def measure(release):
    before = ticks()
    place = os.path.join(ROOT, ".cache", "bench") if os.geteuid() else "/var/tmp"
    os.makedirs(place, exist_ok=True)
    on_tmpfs, on_disk, disk = Asked(release, "/dev/shm"), Asked(release, place), Disk(place)
    for block in range(0, REQUESTS + WARM, BLOCK):
        for asked in (on_tmpfs, on_disk, disk):
            for number in range(block, block + BLOCK):
                asked.ask(number)
    (tmpfs, engine), (disked, _) = on_tmpfs.stop(), on_disk.stop()
    stolen, all_of_it = (after - earlier for after, earlier in zip(ticks(), before))
    return {"stolen": stolen / all_of_it, "tmpfs_ms": spread(tmpfs), "disk_ms": spread(disked), "engine_ms": spread(engine),
            "disk_minus_tmpfs_ms": statistics.median(disked) - statistics.median(tmpfs), "three_commits_and_a_blob_ms": disk.price()}


def show(figures):
    print(f"{'what the server adds to a request':<36}{'p50 ms':>8}{'p90 ms':>8}{'n':>5}")
    for name, key in (("store on tmpfs", "tmpfs_ms"), ("store on disk", "disk_ms"), ("(the engine's own time)", "engine_ms")):
        row = figures[key]
        print(f"{name:<36}{row['p50']:>8.2f}{row['p90']:>8.2f}{row['n']:>5}")
    print(f"the disk adds {figures['disk_minus_tmpfs_ms']:.2f} ms; three commits and one blob without a server cost it "
          f"{figures['three_commits_and_a_blob_ms']:.2f} ms")
    print(f"(meanwhile the host of this machine gave {figures['stolen']:.0%} of its processors to others)")


if __name__ == "__main__":
    show(measure(os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")))
