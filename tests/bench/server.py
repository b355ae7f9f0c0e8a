"""One running server for the benchmarks: `sdrestctl serve --auth pam` over a made-up /etc, the demo model, a free port."""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PRIVATE_ETC = os.path.join(ROOT, "tests", "harness", "private_etc")
DONE = re.compile(r"job=([0-9a-f-]{36}) engine_micros=(\d+)")


class Running:
    """A server with its state in `state`, and `accounts` in the form of private_etc."""

    def __init__(self, release, state, accounts):
        self.folder = tempfile.mkdtemp(prefix="sdrest-bench-")
        self.state = state
        self.log = os.path.join(self.folder, "log")
        subprocess.run([PRIVATE_ETC, "make", self.folder], input=accounts, text=True, check=True)
        command = [PRIVATE_ETC, "run", self.folder, os.path.join(release, "sdrestctl"), "serve", "--auth", "pam", "--port", "0",
                   "--run-dir", os.path.join(self.folder, "run"), "--state-dir", state,
                   "--models-dir", os.path.join(ROOT, "sdrest-worker", "demo-model")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        line = self.process.stdout.readline()
        if not line.startswith("sdrest: ready http://"):
            sys.exit(f"bench: the server did not start:\n{open(self.log).read()}")
        self.address = line.strip().removeprefix("sdrest: ready http://")
        self.connection = http.client.HTTPConnection(self.address, timeout=60)
        self.plain = None

    def post(self, path, body, token=None):
        headers = {"Content-Type": "application/json", "Prefer": "wait=30"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.connection.request("POST", path, json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"bench: {path} answered {answer.status}: {text.decode()}")
        return json.loads(text)

    def timed(self, path, body, token):
        """The answer to a POST, and the milliseconds from its first byte out to its last byte in: the client's own work
        before and after is not the server's."""
        if self.plain is None:
            host, port = self.address.rsplit(":", 1)
            self.plain = socket.create_connection((host, int(port)), timeout=60)
            self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: {self.address}\r\nContent-Type: application/json\r\nPrefer: wait=30\r\n"
                f"Authorization: Bearer {token}\r\nContent-Length: {len(payload)}\r\n\r\n").encode()
        begun = time.perf_counter()
        self.plain.sendall(head + payload)
        answer, end = b"", None
        while end is None or len(answer) < end:
            piece = self.plain.recv(65536)
            if not piece:
                sys.exit(f"bench: {path}: the connection ended after {answer!r}")
            answer += piece
            if end is None and b"\r\n\r\n" in answer:
                length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
                end = answer.index(b"\r\n\r\n") + 4 + int(length[1])
        took = (time.perf_counter() - begun) * 1000
        status, text = int(answer.split()[1]), answer[answer.index(b"\r\n\r\n") + 4:]
        if status >= 300:
            sys.exit(f"bench: {path} answered {status}: {text.decode()}")
        return json.loads(text), took

    def pid(self, name):
        """The pid of one of its programs, by its own record."""
        with open(os.path.join(self.folder, "run", "serve.json")) as file:
            return next(process["pid"] for process in json.load(file)["processes"] if process["name"].startswith(name))

    def stop(self):
        """Ends it; answers the engine's own milliseconds for each job."""
        self.process.terminate()
        self.process.wait()
        with open(self.log) as log:
            text = log.read()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        return {job: int(micros) / 1000 for job, micros in DONE.findall(text)}


def state_folder(parent):
    """A folder that the server's users can enter."""
    folder = tempfile.mkdtemp(prefix="sdrest-bench-state-", dir=parent)
    os.chmod(folder, 0o755)
    return folder
