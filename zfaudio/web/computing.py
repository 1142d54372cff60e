"""Compute beside the server, one request at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_one_at_a_time = threading.Lock()


def compute(function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
    """Call a function in a thread that ends with the program: a server that is stopped does not wait for a long sample.

    A request whose browser has left is computed to its end, and the next one waits for that.
    """
    future: Future[Result] = Future()

    def run() -> None:
        with _one_at_a_time:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
