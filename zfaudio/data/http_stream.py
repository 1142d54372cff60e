"""Read a file over HTTP from start to end, through failures of the server and the network."""

import asyncio
import io
import logging
import re
import ssl
import time
from typing import Any

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

from zfaudio.errors import UserError

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without any data, after which a connection counts as stalled

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between requests, which double from the first to the longest

# A server that sends fewer bytes per second than this, over the time for which a request is repeated, has stalled too.
SLOWEST = 1024

# These mean that the same request may succeed later, as all statuses from 500 on do.
LATER = {408, 425, 429}

logger = logging.getLogger(__name__)


class TransferError(Exception):
    """A request that failed, or a body that broke off.

    Args:
        reason: what happened, for the user.
        temporary: whether the same request may succeed later.
        wait: seconds after which the server asks to come back.
    """

    def __init__(self, reason: str, temporary: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.temporary = temporary
        self.wait = wait


class HTTPStream(io.RawIOBase):
    """The body of a file at an HTTP address.

    If a request fails for a reason that may pass, if the connection is lost, or if nothing arrives for READ_TIMEOUT,
    the rest of the file is requested again, with growing waits in between. A server that cannot send parts of a file
    sends it from the start, and what was read already is skipped.

    Args:
        filesystem: fsspec's file system for the address, with the user's settings.
        url: the address.
        retry: seconds without any progress, after which reading fails.

    Raises:
        UserError: the file cannot be opened. Reading raises it too if the server or the network fails for longer than
            `retry`, or if the file changes on the server; the message says what failed.
    """

    def __init__(self, filesystem: HTTPFileSystem, url: str, retry: float) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._url = url
        self._retry = retry
        self._backoff = wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
        self._response: aiohttp.ClientResponse | None = None
        self._version: tuple[object, ...] | None = None  # what tells this file from another one at this address
        self._size: int | None = None  # of the file in bytes, if the server says
        self._compressed = False  # whether the server compresses what it sends, so that parts have no fixed place
        self._position = 0  # bytes that were read
        self._skip = 0  # bytes to skip until that position
        self._waited, self._arrived = 0.0, 0  # seconds spent reading and bytes received since the speed was checked
        self._clock = 0.0  # when reading began, or when the last bytes arrived
        self._persist(self._connect)

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte into a buffer, unless the file has ended. Returns the number of bytes."""
        self._clock = time.monotonic()
        content: bytes = self._persist(self._read, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self._disconnect()
        super().close()

    # Retries

    def _persist(self, function: Any, *arguments: Any) -> Any:
        """Call a function again while it raises errors that may pass. Raises UserError if they do not."""
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, TransferError) and error.temporary),
            wait=self._next_wait,
            stop=stop_before_delay(self._retry),
            before_sleep=self._report,
            reraise=True,
        )
        start = time.monotonic()
        try:
            return retrying(function, *arguments)
        except TransferError as error:
            tries = retrying.statistics["attempt_number"]
            after = f", {tries} times in {time.monotonic() - start:.0f} s" if tries > 1 and error.temporary else ""
            raise self._failure(f"{error}{after}") from None

    def _next_wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, TransferError) else 0.0
        return max(self._backoff(state), asked)

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        logger.warning("%s: %s; trying again in %.1f s", self._url, error, wait)

    def _check_speed(self, received: int) -> None:
        """Raises UserError if, all waits included, the server has been too slow."""
        now = time.monotonic()
        self._waited += now - self._clock
        self._arrived += received
        self._clock = now
        if self._waited >= max(self._retry, READ_TIMEOUT):
            if self._arrived < SLOWEST * self._waited:
                raise self._failure(f"the server stalled: {self._arrived:,} bytes in {self._waited:.0f} s")
            self._waited, self._arrived = 0.0, 0

    def _failure(self, reason: str) -> UserError:
        if self._version is None:
            return UserError(f"{self._url}: cannot be opened ({reason})")
        of = "" if self._size is None else f" of {self._size:,}"
        return UserError(f"{self._url}: reading broke off after {self._position:,}{of} bytes ({reason})")

    # Requests

    def _read(self, size: int) -> bytes:
        """Read some of the file, at most `size` bytes, and none at its end. Raises TransferError."""
        if self._response is None and self._position != self._size:
            self._connect()
        while self._response is not None:
            content = self._receive(self._response, size)
            skipped = min(self._skip, len(content))
            self._skip -= skipped
            content = content[skipped:]
            if content:
                self._position += len(content)
                return content
            if not skipped:  # the body has ended
                self._disconnect()
                if self._skip or self._size not in (None, self._position):
                    raise TransferError("the server closed the connection before the end")
        return b""

    def _receive(self, response: aiohttp.ClientResponse, size: int) -> bytes:
        try:
            content: bytes = sync(self._filesystem.loop, response.content.read, size)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self._disconnect()
            raise _explained(error) from None
        if content:
            self._check_speed(len(content))
        return content

    def _connect(self) -> None:
        """Request the file from the position on. Raises TransferError."""
        headers = {"Accept-Encoding": "identity"}
        if self._position and not self._compressed:
            headers["Range"] = f"bytes={self._position}-"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        try:
            response = sync(self._filesystem.loop, self._request, headers, timeout)
        except aiohttp.ClientResponseError as error:  # of a session that was told to raise it
            raise _refused(error.status, error.message, error.headers) from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise _explained(error) from None
        self._response = response
        try:
            self._check_response(response)
        except TransferError:
            self._disconnect()
            raise

    async def _request(self, headers: dict[str, str], timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        session = await self._filesystem.set_session()
        options = dict(self._filesystem.kwargs)  # the user's
        options["headers"] = {**options.get("headers", {}), **headers}
        response: aiohttp.ClientResponse = await session.get(
            self._filesystem.encode_url(self._url), **{"timeout": timeout, **options}
        )
        return response

    def _check_response(self, response: aiohttp.ClientResponse) -> None:
        """See that the response is the rest of the file, and where in the file its body starts."""
        headers = response.headers
        if response.status not in (200, 206):
            raise _refused(response.status, response.reason, headers)
        self._compressed = headers.get("Content-Encoding", "identity") != "identity"
        first, size = 0, None if self._compressed else response.content_length
        if response.status == 206:
            part = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", headers.get("Content-Range", ""))
            if part is None or not 0 <= int(part[1]) <= self._position:
                raise TransferError("the server sent another part of the file than it was asked for", temporary=False)
            first, size = int(part[1]), self._size if part[2] == "*" else int(part[2])
        version = (headers.get("ETag"), headers.get("Last-Modified"), size)
        known = self._version or version
        if any(None not in (old, new) and old != new for old, new in zip(known, version, strict=True)):
            raise TransferError("the file changed on the server while it was read", temporary=False)
        self._version = known
        self._size = size if self._size is None else self._size
        self._skip = self._position - first

    def _disconnect(self) -> None:
        if self._response is not None:
            # The connection is closed rather than kept for the next file: the rest of the body is on it.
            self._filesystem.loop.call_soon_threadsafe(self._response.close)
            self._response = None


def _refused(status: int, reason: str | None, headers: Any) -> TransferError:
    """The error for a status that means failure."""
    asked = (headers or {}).get("Retry-After", "")
    wait = float(asked) if re.fullmatch(r"\d{1,5}", asked) else 0.0
    return TransferError(f"{status} {reason or ''}".strip(), temporary=status >= 500 or status in LATER, wait=wait)


def _explained(error: Exception) -> TransferError:
    """The error for a request or a body that failed without a status."""
    cause = error.__cause__ or error  # fsspec's own error for a time-out has aiohttp's as its cause
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return TransferError(f"the server did not accept a connection within {CONNECT_TIMEOUT:.0f} s")
    if isinstance(error, asyncio.TimeoutError):
        return TransferError(f"the server stalled: no data for {READ_TIMEOUT:.0f} s")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError):
        return TransferError("the server closed the connection before the end")
    permanent = (aiohttp.InvalidURL, aiohttp.TooManyRedirects, ssl.CertificateError)
    return TransferError(str(error) or repr(error), temporary=not isinstance(error, permanent))
