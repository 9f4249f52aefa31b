"""One file of another machine, read by HTTP ranges."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from spectra.checkpoint.hub.answers import LOG_IN, TIMEOUT, Patience, Trouble, broken, busy, refused
from spectra.checkpoint.source import ByContent, at_once
from spectra.errors import CheckpointError
from spectra.text import quote

if TYPE_CHECKING:
    import httpx2

OPENING = 64  # bytes of a file's first range: what tells its size, format and header's length
REDIRECTS = 8
RANGES = 8  # on their way at once, of all files together; so many the Hub's own client has
PIECE = 8 << 20  # bytes that are worth a range of their own
SMALL_BODY = 64 << 10  # bytes worth reading to keep a connection
EXPIRED = frozenset({400, 401, 403, 404, 410})  # how stores refuse a signed address of yesterday
DOWNLOAD = "Give --download (`download=True`), or fetch it with `hf download` and give that folder."

BLOB = re.compile(r'(?:W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?')  # of git, or SHA-256 of large ones
SECRETS = frozenset({"authorization", "cookie"})

_on_their_way = BoundedSemaphore(RANGES)

Headers: TypeAlias = Callable[[], Mapping[str, str]]
Session: TypeAlias = Callable[[], "httpx2.Client"]


class NoRangesError(CheckpointError):
    """A server that sends whole files only."""


class Beginning:
    """The first bytes of a file, as many as were read of it for its header."""

    def __init__(self, held: bytes = b"") -> None:
        """Take what is known; it becomes more."""
        self.held = held

    def __reduce__(self) -> tuple[Any, ...]:
        return Beginning, (self.held[:OPENING],)  # whoever is sent the file has its header


_beginnings: WeakValueDictionary[tuple[str, int], Beginning] = WeakValueDictionary()
"""By content and size, of files that are open: revisions have most of theirs in common."""


class RemoteFile(ByContent):
    """A file behind an address, read by range; several threads may read at once.

    Pickled, it keeps what its first answer told, so that nothing is asked for again, but no
    token and no signed address: the process that reads it then makes its headers and its
    connections anew, and takes the token from its own HF_TOKEN or login.
    """

    ranges = RANGES
    chunk = 64 << 20  # takes longer to arrive than a request to be answered

    def __init__(
        self, url: str, label: str, headers: Headers, session: Session, content: str = ""
    ) -> None:
        """Remember where it lies; nothing is asked for yet.

        Args:
            url: Its lasting address, which may redirect to one that expires.
            label: How messages name it.
            headers: Returns what is sent along; `authorization` to the lasting address's own
                host alone.
            session: Returns the HTTP client, which keeps connections.
            content: What stands for its bytes where the server tells no hash of them.
        """
        self.label = label
        self._url = url
        self._direct = url  # what the address redirected to last time
        self._make_headers = headers
        self._headers: Mapping[str, str] | None = headers()
        self._secrets = SECRETS & self._headers.keys()
        self._session = session
        self.content = content
        self._opening = Lock()
        self._head = Beginning()
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Bytes, as the first answer says.

        Raises:
            CheckpointError: The server does not give the file.
        """
        with self._opening:
            if self._size is None:
                head = bytearray(OPENING)
                got = self._fetch(0, memoryview(head))
                self._head = Beginning(bytes(head[:got]))
                if self.content:
                    key = self.content, self._size or 0
                    self._head = _beginnings.setdefault(key, self._head)
            return self._size or 0

    def read(self, start: int, stop: int) -> bytes:
        """Return a small range, for headers; files of one content are asked for theirs once."""
        buffer = bytearray(max(0, min(stop, self.size) - start))
        self.fill(start, memoryview(buffer))
        if start <= len(self._head.held) < start + len(buffer):
            self._head.held = self._head.held[:start] + bytes(buffer)
        return bytes(buffer)

    def fill(self, start: int, buffer: memoryview) -> int:
        """Read from `start` into the buffer; return the bytes got, fewer only at the end."""
        goal = max(0, min(len(buffer), self.size - start))
        known = self._head.held[start : start + goal]
        buffer[: len(known)] = known
        rest = buffer[len(known) : goal]
        count = max(1, min(RANGES, len(rest) // PIECE))
        edges = [share * len(rest) // count for share in range(count + 1)]

        def piece(share: int) -> None:
            first, last = edges[share : share + 2]
            self._fetch(start + len(known) + first, rest[first:last])

        if rest:
            list(at_once(piece, range(count), RANGES))
        return goal

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent elsewhere."""
        return {**self.__dict__, "_opening": None, "_headers": None, "_direct": self._url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opening = Lock()

    def _sent_along(self) -> Mapping[str, str]:
        """Return the headers of a request.

        Raises:
            CheckpointError: The file came from a process with a token, and this one has none.
        """
        if self._headers is None:
            self._headers = self._make_headers()
            if self._secrets - self._headers.keys():
                raise CheckpointError(
                    f"{self.label} was opened with a token, which is not sent from process to "
                    f"process, and this one has none. On this machine too, {LOG_IN}."
                )
        return self._headers

    def _fetch(self, start: int, buffer: memoryview) -> int:
        """Read one range, resumed where a connection breaks; return the bytes got."""
        patience, done = Patience(self.label), 0
        while True:
            got, trouble = self._attempt(start + done, buffer[done:])
            done += got
            if trouble is None:
                return done
            patience.wait(trouble, got)

    def _attempt(self, start: int, buffer: memoryview) -> tuple[int, Trouble | None]:
        """Ask once; return the bytes got, and what kept the rest back."""
        import httpx2  # noqa: PLC0415 - only once a request is made

        got, goal = 0, len(buffer)
        failure: httpx2.TransportError | None = None
        try:
            with _on_their_way, self._answer(start, start + goal) as response:
                if (trouble := busy(response)) is not None:
                    return 0, trouble
                goal = self._goal(response, start, goal)
                for chunk in response.iter_raw():
                    if got + len(chunk) > goal:
                        raise self._wrong(f"more than {goal:,} bytes")
                    buffer[got : got + len(chunk)] = chunk
                    got += len(chunk)
        except httpx2.TransportError as error:
            failure = error
        if failure and (got < goal or not got):
            return got, broken(self.label, failure)
        return got, None if got == goal else Trouble("the answer ended early")

    def _goal(self, response: "httpx2.Response", start: int, asked: int) -> int:
        if response.status_code not in {200, 206, 416}:
            raise refused(self.label, response)
        empty = response.headers.get("content-length") == "0"
        if response.status_code == 200 and not empty:
            raise NoRangesError(
                f"{self.label} lies on a server that ignores ranges and sends whole files (status "
                f"200, expected 206). {DOWNLOAD}"
            )
        first, stop, total = (0, 0, 0) if response.status_code == 200 else self._span(response)
        if self._size is None:
            self._size = total
        goal = max(0, min(asked, self._size - start))
        if total != self._size or (goal and (first, stop) != (start, start + goal)):
            raise self._wrong(f"bytes {first:,} to {stop:,} of {total:,}")
        length = response.headers.get("content-length", str(goal))
        if goal and length != str(goal):
            raise self._wrong(f"a body of {quote(length)} bytes")
        if goal and response.headers.get("content-encoding", "identity") != "identity":
            raise self._wrong("a compressed body")
        return goal

    def _span(self, response: "httpx2.Response") -> tuple[int, int, int]:
        found = response.headers.get("content-range", "")
        unit, _, rest = found.partition(" ")
        span, _, total = rest.partition("/")
        first, _, last = span.partition("-")
        if span == "*" and response.status_code == 416:  # nothing lies there
            first, last = "0", "0"
        numbers = (first, last, total)
        if unit.lower() != "bytes" or not all(n.isdecimal() and len(n) < 20 for n in numbers):
            raise self._wrong(f"the Content-Range {quote(found)}")
        return int(first), int(last) + 1, int(total)

    def _wrong(self, got: str) -> CheckpointError:
        return CheckpointError(
            f"{self.label}: the server answered a range with {got}, which is not what was asked "
            f"for. {DOWNLOAD}"
        )

    @contextmanager
    def _answer(self, start: int, stop: int) -> Iterator["httpx2.Response"]:
        """Ask for a range; redirects are followed by hand, lest one host gets another's token."""
        url = self._direct
        renewed = url == self._url
        for _ in range(REDIRECTS):
            client, response = self._send(url, start, stop)
            try:
                self._note_content(url, response.headers)
                if response.has_redirect_location:
                    url = self._target(url, response.headers["location"])
                elif response.status_code in EXPIRED and not renewed:
                    url, renewed = self._url, True
                else:
                    if response.status_code == 206:
                        self._direct = url
                    yield response
                    return
                drain(response)
            finally:
                response.close()
                if client.is_closed:  # its pool, closed while this connected, knows nothing of it
                    response.extensions["network_stream"].close()
        raise CheckpointError(f"{self.label}: more than {REDIRECTS} redirects. Try again later.")

    def _note_content(self, url: str, headers: Mapping[str, str]) -> None:
        """Keep the hash that the file's own host tells of it; a store's has another meaning."""
        import httpx2  # noqa: PLC0415 - only once a request is made

        told = headers.get("x-linked-etag") or headers.get("etag", "")
        found = BLOB.fullmatch(told)
        if found and httpx2.URL(url).origin == httpx2.URL(self._url).origin:
            self.content = found[1]

    def _send(self, url: str, start: int, stop: int) -> "tuple[httpx2.Client, httpx2.Response]":
        import httpx2  # noqa: PLC0415 - only once a request is made

        client = self._session()
        headers = {
            **self._sent_along(),
            "range": f"bytes={start}-{stop - 1}",
            "accept-encoding": "identity",
        }
        request = client.build_request("GET", url, headers=headers, timeout=TIMEOUT)
        if httpx2.URL(url).origin != httpx2.URL(self._url).origin:
            request.headers.pop("authorization", None)
        try:
            return client, client.send(request, stream=True, follow_redirects=False)
        except RuntimeError:
            if not client.is_closed:
                raise
            # The Hub's library closes the client that all share when a connection fails.
            raise httpx2.ReadError("the client was closed") from None

    def _target(self, url: str, location: str) -> str:
        """Return where a redirect leads."""
        import httpx2  # noqa: PLC0415 - only once a request is made

        here = httpx2.URL(url)
        try:
            target = here.join(location)
        except httpx2.InvalidURL:
            target = httpx2.URL()
        if target.scheme not in {here.scheme, "https"} or not target.host:
            raise CheckpointError(
                f"{self.label} redirects from {here.scheme}://{here.host} to "
                f"{quote(location.partition('?')[0])}, expected an https address. Refused: check "
                "HF_ENDPOINT and the network."
            )
        return str(target)


def drain(response: "httpx2.Response") -> None:
    """Read a small body that nobody needs, so that its connection can be used again."""
    length = response.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 9 and int(length) <= SMALL_BODY:
        for _ in response.iter_raw():
            pass
