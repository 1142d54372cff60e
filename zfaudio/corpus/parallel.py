"""Look into every recording of a corpus, over processes or a Dask cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from zfaudio.corpus.audio import RejectedRecording
from zfaudio.errors import UserError

# How long to wait for a Dask scheduler to answer.
DASK_SECONDS = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def examine(
    function: Callable[[str], Result], paths: Sequence[str], nj: int = 1, dask: str = "", strict: bool = False
) -> tuple[dict[str, Result], dict[str, str]]:
    """Call `function` with every path; what it returned by path, and by path why it rejected the others.

    Raises:
        UserError: with `strict`, for the first that is rejected.
    """
    results: dict[str, Result] = {}
    reasons: dict[str, str] = {}
    for path, (result, reason) in zip(
        paths, spread(partial(attempt, function), paths, nj, dask, "checking"), strict=True
    ):
        if result is not None:
            results[path] = result
        elif strict:
            raise UserError(f"{path}: {reason} (--strict)")
        else:
            reasons[path] = reason
    return results, reasons


def attempt(function: Callable[[str], Result], path: str) -> tuple[Result | None, str]:
    """What the function returns, or None and the reason for which it rejects the recording."""
    try:
        return function(path), ""
    except RejectedRecording as rejection:
        return None, rejection.reason


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], nj: int, dask: str, title: str
) -> Iterator[Result]:
    """function(item) of every item in order, over `nj` processes or the Dask cluster at the address `dask`."""
    with workers(nj, dask):
        results = Parallel(return_as="generator")(delayed(function)(item) for item in items)
        yield from tqdm(results, total=len(items), desc=title, unit="file", disable=None)


@contextmanager
def workers(nj: int, dask: str) -> Iterator[None]:
    """Where joblib works: `nj` processes here (-1: one a core), or the Dask cluster at an address.

    Raises:
        UserError: dask is not installed, or no scheduler answers at the address.
    """
    if not dask:
        if nj == 0:
            raise UserError("--nj 0: give the number of processes, or -1 for one a core")
        with parallel_config(backend="loky", n_jobs=nj):
            yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--dask needs dask and distributed: pip install 'zfaudio[cluster]'") from None
    try:
        client = Client(dask, timeout=DASK_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--dask {dask}: no scheduler answers there ({str(error).splitlines()[0]})") from None
    with client, parallel_config(backend="dask", n_jobs=-1):
        yield


def nameable(path: str) -> str | None:
    """Why a file cannot stand in wav.scp, None where it can."""
    if "\n" in path or "\r" in path:
        return "line break in the file's name"
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return "file name is not UTF-8"
    return None
