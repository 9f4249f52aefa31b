"""What the test hub has and answers: repositories with commits, a CDN beside it, and faults.

Two ports of 127.0.0.1: `hub` has the API and the small files and sends weights' readers on to
`cdn` with a signed address, as huggingface.co does. Every request is recorded.
"""

import json
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from hashlib import file_digest, sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt")
PIECE = 1 << 16
PATIENCE = 1000  # hundredths of a second that requests wait for others


def commit_of(text: str) -> str:
    """Return 40 hexadecimal digits that stand for a text."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def hash_of(file: Path, mtime_ns: int) -> str:
    """Return a file's SHA-256, as the Hub tells it of large ones."""
    del mtime_ns  # that it was written again
    with file.open("rb") as opened:  # bit by bit: tests look at what a process holds
        return file_digest(opened, "sha256").hexdigest()


@dataclass
class Repository:
    """Commits as folders, and what branches and tags point to."""

    commits: dict[str, Path]
    refs: dict[str, str]

    def files(self, commit: str) -> dict[str, Path]:
        folder = self.commits[commit]
        return {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


@dataclass
class Request:
    """One request and what was answered."""

    port: str  # "hub" or "cdn"
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    client: tuple[str, int]  # the connection that it came on
    status: int = 0
    sent: int = 0  # bytes of body

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass
class Faults:
    """What goes wrong, until it is set otherwise."""

    token: str = ""  # asked for on the hub
    gated: bool = False
    renamed: dict[str, str] = field(default_factory=dict)  # old id to new
    busy: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # status, headers: once
    busy_on: str = ""  # only on this port; empty: on both
    ignore_range: bool = False
    cut: int = -1  # bytes after which a range's connection breaks; -1: never
    cuts: int = 1 << 30  # how often
    silent: int = 0  # how many answers never come
    lie: str = ""  # "start", "total", "length", "more", "few", "encoding" or "missing"
    listed: list[Any] = field(default_factory=list)  # names beside the true ones
    sha: Any = None  # in place of the true commit
    redirect: str = ""  # where weights lie, in place of the CDN
    refuse_cdn: int = 0  # status that the CDN gives whatever is asked
    latency: float = 0.0  # seconds before each answer
    together: int = 0  # requests that have to be there at one time before the CDN answers any
    fails_from: int = -1  # byte of a file from which on the CDN gives nothing; -1: it gives all
    fails: str = ""  # but is "dead", "silent", "busy" or "refused"


@dataclass
class Loopback:
    """The hub, as tests see and steer it."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    signature: int = 1  # addresses with another have expired
    active: int = 0  # requests being answered
    most: int = 0  # of them at one time
    hub: str = ""
    cdn: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, folder: Path, ref: str = "main") -> str:
        commit = commit_of(f"{name} {folder}")
        repository = self.repositories.setdefault(name, Repository({}, {}))
        repository.commits[commit] = folder
        repository.refs[ref] = commit
        return commit

    def expire(self) -> None:
        self.signature += 1

    def forget(self) -> None:
        self.requests.clear()
        self.most = 0

    def sent(self, suffix: str = "") -> int:
        return sum(r.sent for r in self.requests if urlsplit(r.path).path.endswith(suffix))

    def asked(self, suffix: str = "", method: str = "") -> list[Request]:
        return [
            r
            for r in self.requests
            if urlsplit(r.path).path.endswith(suffix) and method in {"", r.method}
        ]

    def on(self, port: str) -> list[Request]:
        return [r for r in self.requests if r.port == port]

    def environment(self, home: Path) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self.hub,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    owner: ClassVar[Loopback]
    port: ClassVar[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.note = Request(self.port, self.command, self.path, headers, self.client_address)
        with self.owner.lock:
            self.owner.requests.append(self.note)
            self.owner.active += 1
            self.owner.most = max(self.owner.most, self.owner.active)
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.owner.lock:
                self.owner.active -= 1

    def wait_for_others(self) -> None:
        patience = PATIENCE if self.port == "cdn" else 0
        while self.owner.most < self.owner.faults.together and patience:
            self.owner.closing.wait(0.01)
            patience -= 1

    def answer(self) -> None:
        faults, url = self.owner.faults, urlsplit(self.path)
        if faults.latency:
            self.owner.closing.wait(faults.latency)
        self.wait_for_others()
        with self.owner.lock:
            silent, faults.silent = faults.silent > 0, max(0, faults.silent - 1)
            mine = faults.busy_on in {"", self.port}
            busy = faults.busy.pop(0) if faults.busy and mine else None
        start = int(self.note.range.removeprefix("bytes=").partition("-")[0] or 0)
        lost = self.port == "cdn" and 0 <= faults.fails_from <= start
        if lost and faults.fails == "dead":
            self.close_connection = True
        elif lost and faults.fails in {"busy", "refused"}:
            self.reply({"busy": 503, "refused": 418}[faults.fails], b"no")
        elif silent or lost:
            self.owner.closing.wait(60)
            self.close_connection = True
        elif busy:
            self.reply(busy[0], b"later", busy[1])
        elif self.port == "cdn":
            self.store(url.path, parse_qs(url.query))
        elif faults.token and self.note.headers.get("authorization") != f"Bearer {faults.token}":
            self.refuse(401, "RepoNotFound")
        elif url.path.startswith("/api/models/"):
            self.api(unquote(url.path).removeprefix("/api/models/"))
        elif "/resolve/" in url.path:
            self.resolve(url.path)
        else:
            self.refuse(404, "")

    def api(self, path: str) -> None:
        name, action, revision = self.split(path, ("/revision/", "/tree/"))
        if (to := self.owner.faults.renamed.get(name)) is not None:
            rest = self.path.split(name, 1)[1]
            self.reply(307, b"moved", {"Location": f"/api/models/{to}{rest}"})
            return
        found = self.commit(name, revision)
        if found is None:
            return
        repository, commit = found
        if action == "/tree/":
            tree = [
                {"type": "file", "path": p, "size": f.stat().st_size, "oid": commit_of(p)}
                for p, f in repository.files(commit).items()
            ]
            self.reply(200, json.dumps(tree).encode())
            return
        names = [*repository.files(commit), *self.owner.faults.listed]
        sha = commit if self.owner.faults.sha is None else self.owner.faults.sha
        body = {"id": name, "sha": sha, "siblings": [{"rfilename": n} for n in names]}
        self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def resolve(self, raw: str) -> None:
        name, _, rest = raw[1:].partition("/resolve/")
        revision, _, path = rest.partition("/")
        if (to := self.owner.faults.renamed.get(name)) is not None:
            self.reply(307, b"moved", {"Location": f"/{to}/resolve/{rest}"})
            return
        found = self.commit(name, unquote(revision))
        if found is None:
            return
        repository, commit = found
        if self.owner.faults.gated:
            self.refuse(403 if "authorization" in self.note.headers else 401, "GatedRepo")
            return
        file = repository.files(commit).get(unquote(path))
        facts = {"X-Repo-Commit": commit}
        if file is None:
            self.refuse(404, "EntryNotFound", facts)
            return
        facts["ETag"] = f'"{hash_of(file, file.stat().st_mtime_ns)}"'
        if file.name.endswith(WEIGHTS):
            facts["X-Linked-Size"] = str(file.stat().st_size)
            facts["X-Linked-ETag"] = facts["ETag"]
            there = f"{self.owner.cdn}/{name}/{commit}/{path}?signature={self.owner.signature}"
            self.reply(302, b"there", {**facts, "Location": self.owner.faults.redirect or there})
            return
        self.give(file, facts)

    def store(self, raw: str, query: dict[str, list[str]]) -> None:
        if self.owner.faults.refuse_cdn:
            self.reply(self.owner.faults.refuse_cdn, b"no")
            return
        if query.get("signature") != [str(self.owner.signature)]:
            self.reply(403, b"expired")
            return
        parts = unquote(raw)[1:].split("/")
        (place,) = (i for i, part in enumerate(parts) if len(part) == 40)
        repository = self.owner.repositories["/".join(parts[:place])]
        self.give(repository.commits[parts[place]].joinpath(*parts[place + 1 :]), {})

    def give(self, file: Path, facts: dict[str, str]) -> None:
        faults, size = self.owner.faults, file.stat().st_size
        asked = "" if faults.ignore_range else self.note.range
        start, stop = 0, size
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(size, int(last) + 1 if last else size)
        if asked and start >= size:
            self.reply(416, b"", {**facts, "Content-Range": f"bytes */{size}"})
            return
        length = stop - start
        if asked:
            lies = {"start": (1, 0), "total": (0, 1)}.get(faults.lie, (0, 0))
            span = f"bytes {start + lies[0]}-{stop - 1 + lies[0]}/{size + lies[1]}"
            if faults.lie != "missing":
                facts["Content-Range"] = span
        self.send_response(206 if asked else 200)
        for key, value in facts.items():
            self.send_header(key, value)
        if faults.lie == "encoding":
            self.send_header("Content-Encoding", "gzip")
        if faults.lie == "more":  # no length: the body ends with the connection
            self.send_header("Connection", "close")
        else:
            told = length - 1 if faults.lie == "length" else length
            self.send_header("Content-Length", str(told))
        self.end_headers()
        if self.command == "HEAD":
            return
        with file.open("rb") as stream:
            stream.seek(start)
            self.pour(stream.read, length)

    def pour(self, read: Any, length: int) -> None:  # noqa: ANN401 - a file's read
        """Send a body piece by piece, cut short where that fault is set."""
        faults, left = self.owner.faults, length
        with self.owner.lock:
            cut = faults.cut if faults.cut >= 0 and faults.cuts > 0 and self.note.range else -1
            faults.cuts -= cut >= 0
        if cut >= 0:
            left = min(left, cut)
        if faults.lie == "few":
            left //= 2
        while left:
            piece = read(min(PIECE, left))
            self.note.sent += len(piece)  # before whoever reads it can look
            self.wfile.write(piece)
            left -= len(piece)
        if faults.lie == "more":
            self.wfile.write(b"surplus")
        self.wfile.flush()
        self.close_connection |= cut >= 0 or faults.lie in {"few", "more"}

    def split(self, path: str, actions: tuple[str, ...]) -> tuple[str, str, str]:
        for action in actions:
            name, found, revision = path.partition(action)
            if found:
                return name, action, revision
        return path, "", "main"

    def commit(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.owner.repositories.get(name)
        if repository is None:
            self.refuse(404, "RepoNotFound")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return repository, commit

    def refuse(self, status: int, code: str, facts: dict[str, str] | None = None) -> None:
        given = {**(facts or {}), **({"X-Error-Code": code} if code else {})}
        self.reply(status, json.dumps({"error": code}).encode(), given)

    def reply(self, status: int, body: bytes, facts: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (facts or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.note.sent += len(body)
            self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        self.note.status = code
        super().send_response(code, message)


class Server(ThreadingHTTPServer):
    """One port."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may leave when it likes
            super().handle_error(request, client_address)  # type: ignore[arg-type]
