"""What HTTP, authentication, queue, store, sockets and PNG add to the engine's own time.

Starts the whole server (PAM sign-in, sandboxes, own users as root) over a made-up /etc, asks for small pictures one
after the other with `Prefer: wait`, and subtracts the engine's own time, which the front end logs for each job.
Done twice in one run: with the store on tmpfs, and on disk, where the disk's own fsync is measured beside it.
"""
import os
import statistics
import sys
import tempfile
import time

from server import ROOT, Running, state_folder

REQUESTS = 60
PASSWORD = "a bench password"
BODY = {"prompt": "a red circle on a white background", "steps": 1, "cfg_scale": 1.0, "width": 128, "height": 128}


def added(release, state):
    """Milliseconds that the server adds to each request."""
    uid = 20000 if os.geteuid() == 0 else os.getuid()
    server = Running(release, state, f"artist {uid} ok {PASSWORD}\n")
    token = server.post("/api/v1/auth/login", {"username": "artist", "password": PASSWORD})["token"]
    walls = {}
    for seed in range(REQUESTS + 5):
        begun = time.perf_counter()
        job = server.post("/api/v1/txt2img", {**BODY, "seed": seed}, token)["job"]
        wall = (time.perf_counter() - begun) * 1000
        if job["state"] != "done":
            sys.exit(f"bench: a job ended {job['state']}")
        # The first ones load the model and warm every cache.
        if seed >= 5:
            walls[job["id"]] = wall
    engine = server.stop()
    return [wall - engine[job] for job, wall in walls.items()], [engine[job] for job in walls]


def fsync_ms(folder):
    """The disk's own price for making 4 KiB durable."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(40):
            file.write(os.urandom(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def spread(values):
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p90": ordered[len(ordered) * 9 // 10], "n": len(ordered)}


def measure(release):
    disk = os.path.join(ROOT, ".cache", "bench") if os.geteuid() else "/var/tmp"
    os.makedirs(disk, exist_ok=True)
    on_tmpfs, engine = added(release, state_folder("/dev/shm"))
    before = fsync_ms(disk)
    on_disk, _ = added(release, state_folder(disk))
    fsync = statistics.mean([before, fsync_ms(disk)])
    tmpfs_p50, disk_p50 = statistics.median(on_tmpfs), statistics.median(on_disk)
    return {"tmpfs_ms": spread(on_tmpfs), "disk_ms": spread(on_disk), "engine_ms": spread(engine), "fsync_ms": fsync,
            "disk_minus_tmpfs_in_fsyncs": (disk_p50 - tmpfs_p50) / fsync}


def show(figures):
    print(f"{'what the server adds to a request':<36}{'p50 ms':>8}{'p90 ms':>8}{'n':>5}")
    for name, key in (("store on tmpfs", "tmpfs_ms"), ("store on disk", "disk_ms"), ("(the engine's own time)", "engine_ms")):
        row = figures[key]
        print(f"{name:<36}{row['p50']:>8.2f}{row['p90']:>8.2f}{row['n']:>5}")
    print(f"the disk's own fsync: {figures['fsync_ms']:.2f} ms; the disk adds {figures['disk_minus_tmpfs_in_fsyncs']:.1f} of them a job "
          "(three commits and one blob are five: a picture's blob is its file and its folder)")


if __name__ == "__main__":
    show(measure(os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")))
