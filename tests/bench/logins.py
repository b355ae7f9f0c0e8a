"""What sign-ins cost, and what a crowd of them does to everybody else. Needs root: the server runs with a user for each
process, and the accounts are in a made-up /etc.

 - a sign-in, from the request to the token, against PAM's own time for it (`pam_peer.py`), taken in turns;
 - 200 sign-ins at once from as many addresses, while /api/health is asked all the time;
 - 1,000 sign-ins one after another: descriptors, resident memory and zombies before and after;
 - 1,000 conversations that nobody answers, half of them for one user, and how long that user's own sign-in takes.
"""
import concurrent.futures
import http.client
import json
import os
import statistics
import subprocess
import sys
import time

from overhead import spread
from server import PRIVATE_ETC, ROOT, Running, state_folder

HERE = os.path.dirname(os.path.abspath(__file__))
USERS = 20
CROWD, IN_A_ROW, SILENT, PAIRS = 200, 1000, 1000, 40
SERVICE = "stable-diffusion-rest"


def password(user):
    return f"bench password {user}"


def accounts():
    return "".join(f"artist{n} {20000 + n} ok {password(n)}\n" for n in range(USERS))


def ask(server, method, path, body=None, source=0):
    """(status, JSON) of one request on a connection of its own, from the loopback address 127.0.S.S."""
    address = f"127.0.{source // 200}.{source % 200 + 2}"
    connection = http.client.HTTPConnection(server.address, timeout=60, source_address=(address, 0))
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def sign_in(server, user, source=0):
    """Milliseconds of a sign-in, and its status."""
    begun = time.perf_counter()
    status, _ = ask(server, "POST", "/api/v1/auth/login",
                    {"username": f"artist{user}", "password": password(user)}, source)
    return (time.perf_counter() - begun) * 1000, status


def must(status, what):
    if status != 200:
        sys.exit(f"bench: {what} answered {status}")


def against_pam(server):
    """What the server adds to PAM's own time."""
    command = [PRIVATE_ETC, "run", server.folder, sys.executable, os.path.join(HERE, "pam_peer.py"), SERVICE, "artist0", password(0)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        whole, alone = [], []
        for _ in range(PAIRS):
            took, status = sign_in(server, 0)
            must(status, "a sign-in")
            whole.append(took)
            peer.stdin.write("\n")
            peer.stdin.flush()
            alone.append(float(peer.stdout.readline()))
        peer.stdin.close()
    added = [a - b for a, b in zip(whole, alone)]
    return {"login_ms": spread(whole), "pam_ms": spread(alone), "added_ms": spread(added)}


def crowd(server):
    """The health route while a crowd signs in."""
    times, statuses = [], []
    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        logins = [pool.submit(sign_in, server, n % USERS, n) for n in range(CROWD)]
        while not all(login.done() for login in logins):
            begun = time.perf_counter()
            status, _ = ask(server, "GET", "/api/v1/health", source=5000)
            times.append((time.perf_counter() - begun) * 1000)
            must(status, "health in a crowd")
        statuses = [login.result()[1] for login in logins]
    times.sort()
    return {"health_p99_ms": times[len(times) * 99 // 100], "health_asked": len(times),
            "signed_in": statuses.count(200), "told_to_wait": statuses.count(429),
            "other": len([s for s in statuses if s not in (200, 429)])}


def weight(server):
    """Descriptors, resident KiB and zombies of the two processes that a sign-in goes through."""
    found = {}
    for name in ("api", "authd"):
        pid = server.pid(name)
        status = open(f"/proc/{pid}/status").read()
        rss = int(status.split("VmRSS:")[1].split()[0])
        found[name] = {"fds": len(os.listdir(f"/proc/{pid}/fd")), "rss_kib": rss}
    tree = subprocess.run(["ps", "-e", "-o", "stat=,args="], capture_output=True, text=True, check=True).stdout
    found["zombies"] = sum(1 for line in tree.splitlines() if line.startswith("Z") and "sdrest" in line)
    return found


def in_a_row(server):
    for n in range(100):
        must(sign_in(server, n % USERS)[1], "a sign-in")
    before = weight(server)
    for n in range(IN_A_ROW):
        must(sign_in(server, n % USERS)[1], "a sign-in")
    return {"before": before, "after": weight(server)}


def silence(server):
    """Conversations that wait for a person who never answers, then a real one."""
    for n in range(SILENT):
        user = 1 if n % 2 else n % USERS
        ask(server, "POST", "/api/v1/auth/conversations", {"username": f"artist{user}"}, source=n)
    took, status = sign_in(server, 1, source=9000)
    must(status, "the sign-in beside the silent ones")
    return {"silent": SILENT, "own_sign_in_ms": took}


def measure(release):
    server = Running(release, state_folder("/dev/shm"), accounts())
    try:
        figures = {"against_pam": against_pam(server), "crowd": crowd(server), "in_a_row": in_a_row(server)}
        figures["silence"] = silence(server)
        return figures
    finally:
        server.stop()


def show(figures):
    pam, crowded, row = figures["against_pam"], figures["crowd"], figures["in_a_row"]
    print(f"a sign-in: p50 {pam['login_ms']['p50']:.1f} ms, PAM alone {pam['pam_ms']['p50']:.1f} ms, "
          f"added {pam['added_ms']['p50']:.1f} ms (p90 {pam['added_ms']['p90']:.1f})")
    print(f"{CROWD} at once: health p99 {crowded['health_p99_ms']:.1f} ms over {crowded['health_asked']} asks; "
          f"{crowded['signed_in']} signed in, {crowded['told_to_wait']} told to wait, {crowded['other']} otherwise")
    for name in ("api", "authd"):
        before, after = row["before"][name], row["after"][name]
        print(f"{IN_A_ROW} in a row: {name} {before['fds']} → {after['fds']} descriptors, "
              f"{before['rss_kib'] / 1024:.1f} → {after['rss_kib'] / 1024:.1f} MiB resident")
    print(f"zombies: {row['after']['zombies']}")
    print(f"beside {figures['silence']['silent']} silent conversations: {figures['silence']['own_sign_in_ms']:.0f} ms")


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("bench: logins.py needs root")
    show(measure(os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")))
