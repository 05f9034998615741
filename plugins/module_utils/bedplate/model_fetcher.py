"""Fetch a model's files into its incoming folder, prove them, and give the model its name: the program of the transfer's own unit.

It runs on the server apart from Ansible (bedplate_model_fetch starts it), so that a lost connection does not stop it, and goes on
after a kill where it was. Standard library only, Python 3.9 or newer.

    model_fetcher.main(FOLDER)     FOLDER/job.json says what to do; progress.json and result.json tell of it

The origins are tried in order; each gives what it can. A file counts only with the sha256 of the manifest.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tarfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import aria2, tree, web
from .manifest import Entry, sha256_of
from .refusal import refusal

# Files up to this size are fetched here, larger ones by aria2.
SMALL = 8 << 20
ROUNDS = 6  # without a byte of progress
WRONG_ROUNDS = 3  # with wrong bytes
PROGRESS_S = 0.5
RATE_S = 5.0
ARCHIVE = ".archive"


class Stopped(Exception):
    """The fetch cannot go on; the message is the whole refusal."""


class Fetcher:
    """One model on its way. job: name, dest, manifest, origins, secrets, settings, environment."""

    def __init__(self, job: dict[str, Any], place: Path, *, sleep: Any = time.sleep) -> None:
        self.job, self.place, self.sleep = job, place, sleep
        self.dest = Path(job["dest"])
        self.files: list[Entry] = job["manifest"]["files"]
        self.total = sum(entry["size"] for entry in self.files)
        self.settings = aria2.Settings(**job.get("settings", {}))
        self.proven: set[str] = set()
        self.complete: set[str] = set()
        self.wrong: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.folder = tree.incoming_of(self.dest)
        self.lock = threading.Lock()

    def run(self) -> dict[str, Any]:
        """Fetch, prove and publish; what came of it."""
        began = time.monotonic()
        tree.open_incoming(self.dest, self.job["manifest"], (os.getuid(), os.getgid()))
        with ThreadPoolExecutor(max_workers=2) as provers:
            self.prove_all(provers, [entry for entry in self.files if not self.unfinished(entry)])
            there = self.done()
            self.need_room()
            with Teller(self):
                self.fetch(provers)
        if self.job.get("publish", True):
            damaged = tree.close_incoming(self.dest, self.job["manifest"], frozenset(self.proven))
            if damaged:
                raise Stopped(
                    self.told("BP511", "wrong bytes", ", ".join(damaged[:3]), "what models.lock says", "run again.")
                )
            tree.publish(self.dest, self.job["manifest"], "manifest.json")
        seconds = time.monotonic() - began
        return {"fetched": self.total - there, "bytes": self.total, "seconds": round(seconds, 2)}

    def unfinished(self, entry: Entry) -> bool:
        path = self.folder / entry["path"]
        return (
            path.with_name(path.name + aria2.CONTROL).exists()
            or not path.is_file()
            or path.stat().st_size != entry["size"]
        )

    def done(self) -> int:
        """Bytes that are there; those of files under way by aria2's own account."""
        return sum(entry["size"] if entry["path"] in self.proven else self.partly(entry) for entry in self.files)

    def partly(self, entry: Entry) -> int:
        path = self.folder / entry["path"]
        if path.with_name(path.name + aria2.CONTROL).exists():
            return aria2.fetched_bytes(path)
        # Reserved room is not yet a byte; what aria2 has finished waits for its proof.
        return int(entry["size"]) if entry["path"] in self.complete else 0

    def missing(self) -> list[Entry]:
        return [entry for entry in self.files if entry["path"] not in self.proven]

    # Proving

    def prove_all(self, provers: ThreadPoolExecutor, entries: list[Entry]) -> None:
        for found in [provers.submit(self.prove, entry, "") for entry in entries]:
            found.result()

    def prove(self, entry: Entry, origin: str) -> bool:
        """Whether the file is the manifest's; one that is not is removed. Its bytes are on the disk afterwards."""
        path = self.folder / entry["path"]
        try:
            good = bool(path.stat().st_size == entry["size"] and sha256_of(path, flush=True) == entry["sha256"])
        except OSError:
            return False
        with self.lock:
            if good:
                self.proven.add(entry["path"])
                self.wrong.pop(entry["path"], None)
            else:
                path.unlink(missing_ok=True)
                self.complete.discard(entry["path"])
                if origin:
                    self.wrong[entry["path"]] = origin
                    self.said[origin] = f"{entry['path']} with another sha256"
        return good

    # Fetching

    def need_room(self) -> None:
        """Refuse before the first byte what does not fit; what aria2 has reserved already counts as there."""
        reserved = sum(
            (self.folder / entry["path"]).stat().st_blocks * 512
            for entry in self.files
            if (self.folder / entry["path"]).is_file()
        )
        archive = next((origin["size"] for origin in self.job["origins"] if origin["kind"] == "archive"), 0)
        needed, free = self.total + archive - reserved, shutil.disk_usage(self.folder).free
        if needed > free:
            fix = f"free {(needed - free) / 1e9:.2f} GB there, then run again."
            raise Stopped(
                self.told("BP512", "no room on the disk", f"{free / 1e9:.2f} GB free", f"{needed / 1e9:.2f} GB", fix)
            )

    def fetch(self, provers: ThreadPoolExecutor) -> None:
        """Rounds over the origins until nothing is missing, or as many rounds in a row brought nothing."""
        idle = 0
        while self.missing():
            before = (self.done(), len(self.proven))
            for origin in self.job["origins"]:
                if self.missing():
                    self.fetch_from(origin, provers)
            if not self.missing():
                return
            idle = 0 if (self.done(), len(self.proven)) > before and not self.wrong else idle + 1
            if idle >= (WRONG_ROUNDS if self.wrong else ROUNDS):
                raise Stopped(self.why_not())
            self.sleep(min(2.0**idle, 30.0))

    def fetch_from(self, origin: dict[str, Any], provers: ThreadPoolExecutor) -> None:
        """Everything still missing that this origin gives."""
        try:
            if origin["kind"] == "folder":
                self.copy(Path(origin["path"]), origin["name"], provers)
            elif origin["kind"] == "archive":
                self.unpack(origin, provers)
            else:
                self.download(origin, provers)
        except (web.WebError, OSError, tarfile.TarError) as error:
            self.said[origin["name"]] = str(error)
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise Stopped(self.full()) from None

    def copy(self, folder: Path, name: str, provers: ThreadPoolExecutor) -> None:
        for entry in self.missing():
            target = self.folder / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / entry["path"], target)
            provers.submit(self.prove, entry, name).result()

    def download(self, origin: dict[str, Any], provers: ThreadPoolExecutor) -> None:
        """Small files here, side by side; large ones by aria2, each proven while the next ones come."""
        token = self.job.get("secrets", {}).get(origin.get("secret", ""), "")
        template = origin["url"].replace("{secret}", token)
        bearer = "" if "{secret}" in origin["url"] else token
        tries = int(origin.get("tries", web.TRIES))
        small = [entry for entry in self.missing() if entry["size"] <= SMALL]
        with ThreadPoolExecutor(max_workers=4) as pool:
            asked = [
                pool.submit(self.download_small, template, bearer, entry, origin["name"], tries) for entry in small
            ]
            for one in asked:
                one.result()
        wants = []
        for entry in (entry for entry in self.missing() if entry["size"] > SMALL):
            place = web.place_of(template.replace("{path}", quote(entry["path"])), bearer, tries=tries)
            if place.size not in (None, entry["size"]):
                self.wrong[entry["path"]] = origin["name"]
                self.said[origin["name"]] = f"{entry['path']} has {place.size} bytes there"
                continue
            self.forget_foreign(entry)
            wants.append(
                aria2.Want(
                    entry["path"], place.url, (f"Authorization: Bearer {bearer}",) if bearer and place.direct else ()
                )
            )
        if wants:
            self.run_aria2(wants, self.folder, origin["name"], provers)

    def download_small(self, template: str, token: str, entry: Entry, origin: str, tries: int) -> None:
        data = web.read(template.replace("{path}", quote(entry["path"])), token, tries=tries)
        path = self.folder / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + aria2.CONTROL).unlink(missing_ok=True)
        path.write_bytes(data)
        if not self.prove(entry, origin):
            self.said[origin] = f"{entry['path']}: {len(data)} other bytes"

    def forget_foreign(self, entry: Entry) -> None:
        """A file of the full size without aria2's account of it was proven wrong or never allocated to the end: begin anew."""
        path = self.folder / entry["path"]
        if (
            path.is_file()
            and not path.with_name(path.name + aria2.CONTROL).exists()
            and path.stat().st_size >= entry["size"]
        ):
            path.unlink()

    def run_aria2(self, wants: list[aria2.Want], folder: Path, origin: str, provers: ThreadPoolExecutor) -> None:
        entries = {entry["path"]: entry for entry in self.files}
        proofs: list[Future[bool]] = []

        def complete(path: str) -> None:
            if path in entries:
                self.complete.add(path)
                proofs.append(provers.submit(self.prove, entries[path], origin))

        status, complaint = aria2.fetch(folder, wants, self.settings, complete)
        for proof in proofs:
            proof.result()
        if status == aria2.DISK_FULL and "not supported" in complaint.lower() and self.settings.allocation == "falloc":
            # A file system that cannot reserve room (some network ones).
            self.settings = aria2.Settings(**{**self.job.get("settings", {}), "allocation": "none"})
        elif status == aria2.DISK_FULL:
            raise Stopped(self.full())
        if status:
            self.said[origin] = complaint or f"aria2 ended with {status}"

    def unpack(self, origin: dict[str, Any], provers: ThreadPoolExecutor) -> None:
        """Fetch an archive beside the files, prove it, take out of it what the manifest names and nothing else."""
        archive = self.folder / ARCHIVE
        whole: Entry = {"path": ARCHIVE, "size": origin["size"], "sha256": origin["sha256"]}
        if not (archive.is_file() and not self.unfinished(whole) and sha256_of(archive) == whole["sha256"]):
            self.run_aria2([aria2.Want(ARCHIVE, web.place_of(origin["url"]).url)], self.folder, origin["name"], provers)
            if self.unfinished(whole):
                return
            if sha256_of(archive) != whole["sha256"]:
                archive.unlink()
                self.wrong[ARCHIVE], self.said[origin["name"]] = origin["name"], "another archive than was locked"
                return
        self.wrong.pop(ARCHIVE, None)
        wanted = {origin["folder"] + entry["path"]: entry for entry in self.missing()}
        with tarfile.open(archive, "r:*") as opened:
            for member in opened:
                stream = opened.extractfile(member) if member.name in wanted and member.isfile() else None
                if stream is not None:
                    target = self.folder / wanted[member.name]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with stream, target.open("wb") as out:
                        shutil.copyfileobj(stream, out, 1 << 22)
                    provers.submit(self.prove, wanted[member.name], origin["name"]).result()
        if not self.missing():
            archive.unlink()

    # Telling

    def told(self, code: str, title: str, found: str, wanted: str, fix: str) -> str:
        return str(refusal(code, f"model {self.job['name']}: {title}", found, wanted, fix))

    def full(self) -> str:
        free = shutil.disk_usage(self.folder).free
        missing = max(self.total - self.done() - free, 1 << 20)
        fix = f"free {missing / 1e9:.3f} GB there, then run again: what was fetched is kept."
        found = f"{free / 1e9:.2f} GB free under {self.folder.parent.parent}"
        return self.told("BP512", "the disk is full", found, f"{(self.total - self.done()) / 1e9:.2f} GB more", fix)

    def why_not(self) -> str:
        said = "; ".join(f"{name}: {what}" for name, what in self.said.items()) or "no answer"
        if self.wrong:
            names = ", ".join(sorted(self.wrong)[:3])
            fix = "run again; if it stays, the mirror is damaged, or the files changed: ./bedplate model lock locks them anew."
            return self.told("BP511", "wrong bytes", f"{names} ({said})", "the sizes and sha256 of models.lock", fix)
        fix = "check that the server reaches it (proxy, mirror, certificates), then run again: it goes on where it was."
        kept = f"{self.done() / 1e9:.2f} of {self.total / 1e9:.2f} GB are there"
        return self.told("BP513", "the transfer does not get on", f"{said}; {kept}", "all of it", fix)


class Teller(threading.Thread):
    """Writes how far the fetch is, twice a second, for the module and for ./bedplate status."""

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__(daemon=True)
        self.fetcher, self.ended = fetcher, threading.Event()
        self.seen: list[tuple[float, int]] = []

    def __enter__(self) -> Teller:
        self.tell()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()
        self.tell()

    def run(self) -> None:
        while not self.ended.wait(PROGRESS_S):
            self.tell()

    def tell(self) -> None:
        now, done = time.monotonic(), self.fetcher.done()
        self.seen = [one for one in self.seen if now - one[0] <= RATE_S] + [(now, done)]
        span = now - self.seen[0][0]
        rate = (done - self.seen[0][1]) / span if span > 0 else 0.0
        about = {"model": self.fetcher.job["name"], "directory": self.fetcher.dest.name}
        write(
            self.fetcher.place / "progress.json",
            {**about, "done": done, "total": self.fetcher.total, "rate": max(0, int(rate))},
        )


def write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.chmod(0o644)
    beside.replace(path)


def main(place: str) -> int:
    """Do the job of a folder; result.json says what came of it. Ends with 0 unless it was killed or broke."""
    folder = Path(place)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    os.environ.update({name: value for name, value in job.get("environment", {}).items() if value})
    fetcher = Fetcher(job, folder)
    try:
        result: dict[str, Any] = fetcher.run()
    except Stopped as stopped:
        result = {"problem": str(stopped)}
    except Exception as error:  # whatever it is, whoever attends has to hear of it
        if getattr(error, "errno", None) == errno.ENOSPC:
            result = {"problem": fetcher.full()}
        else:
            found, fix = (
                f"{type(error).__name__}: {error}",
                "correct what it names, then run again: what was fetched is kept.",
            )
            title = f"model {job['name']}: the transfer broke off"
            result = {"problem": refusal("BP513", title, found, "a whole transfer", fix)}
    write(folder / "result.json", result)
    # What it was told is not needed any more, tokens among it.
    (folder / "job.json").unlink(missing_ok=True)
    (folder / "progress.json").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
