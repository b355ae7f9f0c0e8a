#!/usr/bin/env python3
"""Puts libtorch 2.11.0 into a folder (`make libtorch`), without Python packages of its own.

The CPU libraries come out of three wheels of the Python package index that pip is configured for:
`torch` (libtorch_cpu.so, libc10.so, libgomp and the headers: 129 MB by HTTP range requests instead of the
whole 530 MB) and the two small NVIDIA wheels that libtorch_cpu.so is linked against. Where the index knows
no range requests, the whole wheel is fetched. Every file is checked by SHA-256: the wheels against the
digests below, single files against the wheel's own RECORD, whose digest stands below too.
A broken download goes on where it stopped.

Usage: fetch.py TARGET CACHE        TARGET gets include/, lib/ and build-version
       fetch.py --use DIR TARGET    makes TARGET a view of a libtorch 2.11 that you have
"""
import base64
import csv
import hashlib
import io
import json
import os
import shutil
import ssl
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib

VERSION = "2.11.0"
WHEELS = {
    "torch": ("2.11.0", "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
    "nvidia-cuda-runtime": ("13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    "nvidia-cuda-cupti": ("13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
}
RECORD_SHA256 = "86b11de9e81e378fe38d68644e581b98c138494d67197b94ba12eade2be836e7"
LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")
NVIDIA = {"nvidia-cuda-runtime": "libcudart.so.13", "nvidia-cuda-cupti": "libcupti.so.13"}
# Entries that lie closer together than this are fetched as one span.
GAP = 1 << 16
CHUNK = 1 << 20


def say(text):
    print(f"libtorch: {text}", flush=True)


class Progress:
    """One line that is rewritten on a terminal, a line every ten percent elsewhere."""

    def __init__(self, what, total):
        self.what, self.total, self.done, self.shown = what, max(total, 1), 0, -10

    def add(self, count):
        self.done += count
        percent = 100 * self.done // self.total
        line = f"libtorch: {self.what} {self.done >> 20} of {self.total >> 20} MB ({percent} %)"
        if sys.stdout.isatty():
            print("\r" + line, end="\n" if self.done >= self.total else "", flush=True)
        elif percent >= self.shown + 10:
            self.shown = percent
            print(line, flush=True)


def tls_context():
    """The certificates that pip trusts, where it names a file of its own."""
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        if os.path.isfile(os.environ.get(name, "")):
            return ssl.create_default_context(cafile=os.environ[name])
    return ssl.create_default_context()


def opened(url, first=None, last=None, tries=5):
    """The response for bytes first..last of the URL; tries again after a broken connection."""
    for attempt in range(tries):
        request = urllib.request.Request(url)
        if first is not None:
            request.add_header("Range", f"bytes={first}-{'' if last is None else last}")
        try:
            return urllib.request.urlopen(request, timeout=60, context=tls_context())
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            if attempt + 1 == tries:
                raise
            say(f"{error}; trying again")
            time.sleep(2 ** attempt)


def download(url, path, first, length, progress):
    """Fetches bytes first..first+length into `path`, going on where an earlier run stopped."""
    have = os.path.getsize(path) if os.path.exists(path) else 0
    if have > length:
        os.remove(path)
        have = 0
    progress.add(have)
    stalls = 0
    while have < length:
        before = have
        try:
            with opened(url, first + have, first + length - 1) as answer, open(path, "ab") as part:
                if answer.status != 206:
                    raise RuntimeError("the index stopped answering range requests")
                while block := answer.read(CHUNK):
                    part.write(block)
                    have += len(block)
                    progress.add(len(block))
        except OSError as error:
            say(f"{error}; going on at {have >> 20} MB")
        stalls = 0 if have > before else stalls + 1
        if stalls == 5:
            raise RuntimeError(f"no byte came in five tries for {os.path.basename(path)}")


def wheel_urls(cache):
    """Asks pip where its index keeps the wheels; a private environment, so that no host package is touched."""
    venv = os.path.join(cache, "pip")
    python = os.path.join(venv, "bin", "python")
    # One that was broken off has a Python and no pip.
    if not os.path.exists(python) or subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    wanted = [f"{name}=={version}" for name, (version, _) in WHEELS.items()]
    command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet",
               "--target", os.path.join(cache, "none"), "--python-version", "3.11", "--implementation", "cp",
               "--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--platform",
               "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64", "--platform",
               "manylinux_2_25_x86_64", "--report", "-", *wanted]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"libtorch: pip cannot find the wheels:\n{answer.stderr.strip()}")
    urls = {}
    for item in json.loads(answer.stdout)["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        if digest != WHEELS[name][1]:
            sys.exit(f"libtorch: the index has another {name} {WHEELS[name][0]}: sha256 {digest}")
        urls[name] = item["download_info"]["url"]
    return urls


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def whole_wheel(url, name, cache):
    """The whole wheel, checked."""
    path = os.path.join(cache, f"{name}.whl")
    if not os.path.exists(path):
        with opened(url) as answer, open(path + ".part", "wb") as part:
            progress = Progress(name, int(answer.headers.get("Content-Length", 0)))
            while block := answer.read(CHUNK):
                part.write(block)
                progress.add(len(block))
        os.replace(path + ".part", path)
    if sha256_of(path) != WHEELS[name][1]:
        os.remove(path)
        sys.exit(f"libtorch: {name} does not have the expected SHA-256; it was deleted, run this again")
    return path


def wanted(entry):
    if entry.endswith("/"):
        return False
    return entry.startswith("torch/include/") or entry in [f"torch/lib/{name}" for name in LIBRARIES]


def write_checked(name, data, records, target):
    """Writes one file of the wheel below `target` after comparing it with RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    if records.get(name) != f"sha256={digest}":
        sys.exit(f"libtorch: {name} does not have the SHA-256 that RECORD gives")
    path = os.path.join(target, name.removeprefix("torch/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def parse_records(data):
    if hashlib.sha256(data).hexdigest() != RECORD_SHA256:
        sys.exit("libtorch: the wheel's RECORD does not have the expected SHA-256")
    return {row[0]: row[1] for row in csv.reader(io.StringIO(data.decode()))}


def from_whole_wheel(path, target):
    with zipfile.ZipFile(path) as wheel:
        records = parse_records(wheel.read(f"torch-{VERSION}.dist-info/RECORD"))
        for name in filter(wanted, wheel.namelist()):
            write_checked(name, wheel.read(name), records, target)


class Tail(io.RawIOBase):
    """The end of a remote file, as a seekable file, for zipfile's central directory."""

    def __init__(self, url, size):
        self.url, self.size, self.at = url, size, 0

    def seekable(self):
        return True

    def readable(self):
        return True

    def seek(self, offset, whence=0):
        self.at = {0: offset, 1: self.at + offset, 2: self.size + offset}[whence]
        return self.at

    def tell(self):
        return self.at

    def readinto(self, buffer):
        last = min(self.at + len(buffer), self.size) - 1
        if last < self.at:
            return 0
        with opened(self.url, self.at, last) as answer:
            data = answer.read()
        buffer[:len(data)] = data
        self.at += len(data)
        return len(data)


def spans_of(entries, ends):
    """Groups entries that lie close together into spans (first byte, end, entries)."""
    spans = []
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        end = ends[entry.filename]
        if spans and entry.header_offset - spans[-1][1] < GAP:
            spans[-1][1] = end
            spans[-1][2].append(entry)
        else:
            spans.append([entry.header_offset, end, [entry]])
    return spans


def unpack(entry, span, base):
    """One entry out of a span that lies on disk (PKWARE appnote 4.3.7: 30 bytes, then name and extra)."""
    span.seek(entry.header_offset - base)
    header = span.read(30)
    if header[:4] != b"PK\x03\x04":
        sys.exit(f"libtorch: {entry.filename} is not where the wheel's directory says")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    span.seek(name_length + extra_length, os.SEEK_CUR)
    data = span.read(entry.compress_size)
    return zlib.decompress(data, -15) if entry.compress_type == zipfile.ZIP_DEFLATED else data


def from_ranges(url, size, cache, target):
    """Only the parts of the torch wheel that are needed."""
    with zipfile.ZipFile(io.BufferedReader(Tail(url, size), 4 << 20)) as wheel:
        infos = wheel.infolist()
        directory_at = wheel.start_dir
    record = next(info for info in infos if info.filename == f"torch-{VERSION}.dist-info/RECORD")
    entries = [info for info in infos if wanted(info.filename)]
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [info.header_offset for info in ordered[1:]] + [directory_at]
    ends = {info.filename: end for info, end in zip(ordered, starts)}
    spans = spans_of(entries + [record], ends)
    parts = os.path.join(cache, "parts")
    os.makedirs(parts, exist_ok=True)
    progress = Progress("torch", sum(end - first for first, end, _ in spans))
    for first, end, _ in spans:
        download(url, os.path.join(parts, f"{first}-{end}"), first, end - first, progress)
    files = {}
    for first, end, inside in spans:
        with open(os.path.join(parts, f"{first}-{end}"), "rb") as span:
            for entry in inside:
                files[entry.filename] = (first, end, entry)
    first, end, entry = files[record.filename]
    with open(os.path.join(parts, f"{first}-{end}"), "rb") as span:
        records = parse_records(unpack(entry, span, first))
    say(f"unpacking {len(entries)} files")
    for first, end, inside in spans:
        with open(os.path.join(parts, f"{first}-{end}"), "rb") as span:
            for entry in filter(lambda entry: wanted(entry.filename), inside):
                write_checked(entry.filename, unpack(entry, span, first), records, target)


def stub_library(target):
    """libtorch.so is an umbrella that the linker asks for; the real one would pull in CUDA."""
    path = os.path.join(target, "lib", "libtorch.so")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-o", path, "-Wl,-soname,libtorch.so", "-xc", os.devnull], check=True)


def fetch(target, cache):
    if is_complete(target):
        say(f"{VERSION} is in {target}")
        return
    os.makedirs(cache, exist_ok=True)
    urls = wheel_urls(cache)
    fresh = target + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    with opened(urls["torch"], 0, 0) as answer:
        size = int(answer.headers.get("Content-Range", "*/0").split("/")[1]) if answer.status == 206 else 0
    if size:
        from_ranges(urls["torch"], size, cache, fresh)
    else:
        say("the index knows no range requests; fetching the whole wheel (530 MB)")
        from_whole_wheel(whole_wheel(urls["torch"], "torch", cache), fresh)
    for name, library in NVIDIA.items():
        with zipfile.ZipFile(whole_wheel(urls[name], name, cache)) as wheel:
            inside = next(entry for entry in wheel.namelist() if entry.endswith("/" + library))
            with open(os.path.join(fresh, "lib", library), "wb") as file:
                file.write(wheel.read(inside))
    finish(fresh, target)
    shutil.rmtree(cache, ignore_errors=True)


def use(existing, target):
    """A view of the user's own libtorch, without libtorch_cuda.so: it is loaded at run time, not linked."""
    version_file = os.path.join(existing, "build-version")
    version = open(version_file).read().strip() if os.path.exists(version_file) else "unknown"
    if os.path.exists(os.path.join(existing, "version.py")):
        version = next(line.split("'")[1] for line in open(os.path.join(existing, "version.py")) if line.startswith("__version__"))
    if not version.startswith(VERSION):
        sys.exit(f"libtorch: {existing} holds version {version}; sdrest needs {VERSION}")
    fresh = target + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(os.path.join(fresh, "lib"))
    os.symlink(os.path.join(existing, "include"), os.path.join(fresh, "include"))
    for name in sorted(os.listdir(os.path.join(existing, "lib"))):
        if ".so" in name and name != "libtorch.so" and not name.startswith(("libtorch_cuda", "libtorch_python")):
            os.symlink(os.path.join(existing, "lib", name), os.path.join(fresh, "lib", name))
    # In a Python installation the NVIDIA libraries lie beside torch; $ORIGIN does not follow our links.
    beside = os.path.join(os.path.dirname(existing.rstrip("/")), "nvidia", "cu13", "lib")
    for name in NVIDIA.values():
        if os.path.exists(os.path.join(beside, name)) and not os.path.exists(os.path.join(fresh, "lib", name)):
            os.symlink(os.path.join(beside, name), os.path.join(fresh, "lib", name))
    finish(fresh, target)


def finish(fresh, target):
    stub_library(fresh)
    with open(os.path.join(fresh, "build-version"), "w") as file:
        file.write(VERSION + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)
    say(f"{VERSION} is in {target}")


def is_complete(target):
    version = os.path.join(target, "build-version")
    return os.path.exists(version) and open(version).read().strip() == VERSION


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--use":
        use(os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3]))
    elif len(sys.argv) == 3:
        fetch(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        sys.exit(f"libtorch: {error}")
