"""What a server's answers mean: try again later, and how long, or a final no, in one line."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from spectra.errors import CheckpointError
from spectra.text import duration, shown

if TYPE_CHECKING:
    import httpx2

Found = TypeVar("Found")

TIMEOUT = 30.0  # seconds without a byte; the Hub's own client would wait for ever
ATTEMPTS = 5  # in a row that bring next to nothing
PROGRESS = 64 << 10  # bytes in one attempt that let the counting start anew
WAIT = 1.0  # seconds after the first failure, doubled with each
PATIENCE = 300.0  # seconds waited in all; the Hub counts its rate limits over as many
SILENT = 5.0  # seconds without a byte, longer ones are told
EVERY = 30.0  # seconds between lines about waits, whatever waits
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
SPENT = re.compile(r'"\w+"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)')  # a RateLimit header, none left
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"

REFUSALS = {
    "GatedRepo": "this repository is gated. Accept its terms on its page of the Hub, and "
    f"{LOG_IN} of that account.",
    "RepoNotFound": "nothing on this machine and no repository of the Hub that you may see. "
    f"Check the name; if it is private, {LOG_IN}.",
    "RevisionNotFound": "the repository has no such revision. Give a branch, tag or commit of it.",
    "EntryNotFound": "the repository has no such file. Check its name.",
    "UnknownToken": "the Hub does not know your token. Log in again with `hf auth login`, or "
    "unset HF_TOKEN.",
    "Forbidden": "may not be read (status 403): it is disabled, or the token lacks the right to. "
    f"See its page of the Hub, and {LOG_IN} of an account that may read it.",
}
"""Why a server says no, by the Hub's own codes and two of ours, and what to do."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an attempt failed that another one may bring to its end."""

    what: str
    wait: float | None = None  # seconds, where the server names them
    advice: str = "Try again later."


class Waits:
    """Tells the log named `spectra` of waits: of one at a time, as all that waits has one cause."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._told = -EVERY

    def tell(self, text: str) -> None:
        """Tell it, unless another wait was told just now."""
        with self._lock:
            now = time.monotonic()
            if now - self._told < EVERY - 1:
                return
            self._told = now
        logging.getLogger("spectra").warning(text)


_waits = Waits()


class Patience:
    """Waits between attempts, longer each time, and gives up in the end."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._failures = 0
        self._waited = 0.0
        self._since = time.monotonic()

    def wait(self, trouble: Trouble, got: int = 0) -> None:
        """Sleep before the next attempt.

        Args:
            trouble: Why the last one failed.
            got: Bytes that it brought.

        Raises:
            CheckpointError: Enough has been tried, or the server asks for too long a wait.
        """
        if got >= PROGRESS:
            self._failures, self._waited, self._since = 0, 0.0, time.monotonic()
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise CheckpointError(
                f"{self._label}: {trouble.what}, {ATTEMPTS} times in a row. {trouble.advice}"
            )
        seconds = WAIT * 2 ** (self._failures - 1) if trouble.wait is None else trouble.wait
        if self._waited + seconds > PATIENCE:
            raise CheckpointError(
                f"{self._label}: {trouble.what}, and the server asks to wait {seconds:,.0f} s. "
                f"{trouble.advice}"
            )
        self._waited += seconds
        self._sleep(seconds, trouble.what)

    def _sleep(self, seconds: float, why: str) -> None:
        """Sleep, and tell of it where that is long."""
        while seconds > 0:
            if time.monotonic() + seconds - self._since >= SILENT:
                _waits.tell(f"{self._label}: {why}; trying again in {duration(seconds)}.")
            time.sleep(min(seconds, EVERY))
            seconds -= EVERY


class NoRepositoryError(CheckpointError):
    """The Hub knows no such repository, or shows it to others alone."""


class UnreachableError(CheckpointError):
    """The Hub does not answer, or only that it cannot now."""


def asked(label: str, ask: Callable[[], Found], *, again: bool = True) -> Found:
    """Return what a call of the Hub's own client gives, tried again where that may help.

    Args:
        label: How messages name what is asked for.
        ask: The call.
        again: Whether to try again; not where the client itself does.

    Raises:
        CheckpointError: The Hub refuses, cannot be reached, or makes no sense.
    """
    import httpx2  # noqa: PLC0415 - only once a request is made

    patience = Patience(label)
    while True:
        try:
            return ask()
        except (
            httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError,
            ValueError, TypeError, KeyError, AttributeError,
        ) as error:  # fmt: skip
            failure = error
        trouble = _trouble(label, failure)
        if isinstance(failure, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise UnreachableError(f"{label}: {trouble.what}. Check the network.")
        if not again:
            raise CheckpointError(f"{label}: {trouble.what}. {trouble.advice}")
        try:
            patience.wait(trouble)
        except CheckpointError as error:
            raise UnreachableError(str(error)) from None


def _trouble(label: str, error: Exception) -> Trouble:
    """Return what went wrong in the Hub's own client, where another attempt may help."""
    import httpx2  # noqa: PLC0415 - there already
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the Hub itself did not give it
    if isinstance(error, HfHubHTTPError):
        trouble = busy(error.response)
        if trouble is None:
            raise refused(label, error.response)
        return trouble
    if isinstance(error, httpx2.TransportError):
        return broken(label, error)
    if isinstance(error, UnicodeError):  # its text would quote the token
        raise unwritable(label)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({shown(error.filename)})" if error.filename else ""
        raise CheckpointError(
            f"{label} cannot be fetched: {error.strerror}{where}. Make room, or set HF_HOME to a "
            "folder that can be written."
        )
    raise CheckpointError(
        f"{label}: the Hub's answer makes no sense ({type(error).__name__}). Check HF_ENDPOINT and "
        "the network, and run again."
    )


def unwritable(label: str) -> CheckpointError:
    """Return the error for a request that cannot be written; it does not quote the token."""
    return CheckpointError(
        f"{label}: the request cannot be written. Check HF_ENDPOINT, and that HF_TOKEN is one "
        "plain word."
    )


def busy(response: "httpx2.Response") -> Trouble | None:
    """Return the trouble where a server says "not now", and for how long; None where it does not.

    Source:
        RFC 9110, 10.2.3 (Retry-After); draft-ietf-httpapi-ratelimit-headers-09 (RateLimit).
    """
    status = response.status_code
    if status not in BUSY:
        return None
    wait = _retry_after(response.headers.get("retry-after", ""))
    if status != 429:
        return Trouble(f"the server has trouble (status {status})", wait)
    spent = SPENT.search(response.headers.get("ratelimit", ""))
    wait = float(spent[1]) if spent and wait is None else wait
    return Trouble("the rate limit is reached (status 429)", wait, f"Try again then, or {LOG_IN}.")


def _retry_after(text: str) -> float | None:
    if text.strip().isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def broken(label: str, error: "httpx2.TransportError") -> Trouble:
    """Return the trouble behind a connection that failed.

    Raises:
        CheckpointError: Another attempt would fail alike.
    """
    import httpx2  # noqa: PLC0415 - there already, as an error of it is

    if isinstance(error, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
        raise unwritable(label)
    if isinstance(error, httpx2.TimeoutException):
        what = f"nothing came for {TIMEOUT:g} s"
    else:
        what = f"the connection failed ({type(error).__name__})"
    return Trouble(what, advice="Check the network; HF_HUB_OFFLINE=1 reads the cache alone.")


def refused(label: str, response: "httpx2.Response") -> CheckpointError:
    """Return the error for an answer that is a final no; its body stays unread."""
    status, code = response.status_code, response.headers.get("x-error-code", "")
    if status == 401 and "credentials" in response.headers.get("x-error-message", "").lower():
        code = "UnknownToken"
    elif status in {401, 403} and code not in REFUSALS:
        code = {401: "RepoNotFound", 403: "Forbidden"}[status]
    why = REFUSALS.get(
        code,
        f"the server answered with status {status}, expected what was asked for. Check "
        "HF_ENDPOINT and the network.",
    )
    kind = NoRepositoryError if code == "RepoNotFound" else CheckpointError
    return kind(f"{label}: {why}")
