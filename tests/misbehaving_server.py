"""An HTTP server on this machine that serves a folder, and fails as it is told."""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What happens to one request: called with the request and the file's content.
Fault = Callable[["Request", bytes], None]


class Server(ThreadingHTTPServer):
    """Serves a folder. `faults` are what happens to the next requests for a file; after them, all is well."""

    daemon_threads = True

    def __init__(self, folder: Path, ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.folder = folder
        self.ranges = ranges  # whether it can send parts of files
        self.faults: dict[str, list[Fault]] = defaultdict(list)  # by name of the file
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, str | None]] = []  # name of the file and the Range that was asked for
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client may hang up


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.requests.append((name, self.headers["Range"]))
        path = self.server.folder / name
        if not path.is_file():
            self.answer(404)
            return
        faults = self.server.faults[name]
        fault = faults.pop(0) if faults else self.server.always.get(name, well)
        fault(self, path.read_bytes())

    def answer(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send the start of a response, and `content`. Its length is said to be `length`, by default its own."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def hang_up(self) -> None:
        self.close_connection = True

    def hang(self) -> None:
        """Send nothing until the server is stopped."""
        self.server.stopped.wait()
        self.close_connection = True

    def part(self, content: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers of the part that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked is None or not self.server.ranges:
            return 200, content, {"ETag": '"one"'}
        first = int(asked[1])
        place = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return 206, content[first:], {"ETag": '"one"', "Content_Range": place}


def well(request: Request, content: bytes) -> None:
    status, part, headers = request.part(content)
    request.answer(status, part, **headers)


def status(code: int, **headers: str) -> Fault:
    return lambda request, content: request.answer(code, b"sorry", **headers)


def cut(share: float) -> Fault:
    """Send a share of what was asked for, and hang up."""

    def send(request: Request, content: bytes) -> None:
        code, part, headers = request.part(content)
        request.answer(code, part[: int(share * len(part))], length=len(part), **headers)
        request.hang_up()

    return send


def stall(share: float) -> Fault:
    """Send a share of what was asked for, and then nothing, on an open connection."""

    def send(request: Request, content: bytes) -> None:
        code, part, headers = request.part(content)
        request.answer(code, part[: int(share * len(part))], length=len(part), **headers)
        request.hang()

    return send


def silence(request: Request, content: bytes) -> None:
    """Accept the request and never answer."""
    request.hang()


def hang_up(request: Request, content: bytes) -> None:
    """Close the connection without an answer."""
    request.hang_up()


def drip(request: Request, content: bytes) -> None:
    """Send a byte now and then, so that no time-out between two of them ever passes."""
    request.answer(200, length=len(content))
    for i in range(len(content)):
        if request.server.stopped.wait(0.05):
            break
        request.wfile.write(content[i : i + 1])
        request.wfile.flush()
    request.hang_up()


def unmarked_cut(request: Request, content: bytes) -> None:
    """Send half without having said how much there is, and hang up, as HTTP/1.0 does at the end."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])
    request.hang_up()


def chunked_cut(request: Request, content: bytes) -> None:
    """Send half in chunks, and hang up before the last chunk."""
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    half = content[: len(content) // 2]
    request.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
    request.hang_up()


def other_version(request: Request, content: bytes) -> None:
    """Answer as if the file had been replaced."""
    code, part, headers = request.part(content)
    request.answer(code, part, **{**headers, "ETag": '"another"'})


def wrong_part(request: Request, content: bytes) -> None:
    """Answer with another part of the file than the one that was asked for."""
    request.answer(206, content[7:], Content_Range=f"bytes {10**9}-{10**9 + 5}/{len(content)}")


@contextmanager
def serve(folder: Path, ranges: bool = True) -> Iterator[Server]:
    server = Server(folder, ranges)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for_loaders() -> None:
    """Wait for the threads of dropped streams, which would go on asking a server that is gone."""
    for thread in threading.enumerate():
        if thread.name.startswith("loader"):
            thread.join(10)


def seconds_of(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start
