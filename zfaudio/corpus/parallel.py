"""Run a function on each recording of a corpus, in several processes or on a Dask cluster."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from zfaudio.corpus.audio import RejectedRecording
from zfaudio.errors import UserError

# How many seconds to wait for a Dask scheduler to answer.
DASK_TIMEOUT = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_recordings(
    check: Callable[[str], Result], paths: Sequence[str], nj: int = 1, dask: str = "", strict: bool = False
) -> tuple[dict[str, Result], dict[str, str]]:
    """Check each recording with a function that raises RejectedRecording for one that cannot be used.

    Args:
        check: called with each path. It must be possible to pickle it.
        paths: of the recordings.
        nj: number of processes, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, if not empty.
        strict: stop at the first recording that is rejected.

    Returns:
        What `check` returned, by path, and the reasons for the other recordings, by path.

    Raises:
        UserError: with `strict`, for the first recording that is rejected.
    """
    results: dict[str, Result] = {}
    reasons: dict[str, str] = {}
    outcomes = run_parallel(partial(result_or_reason, check), paths, nj, dask, "checking")
    for path, (result, reason) in zip(paths, outcomes, strict=True):
        if result is not None:
            results[path] = result
        elif strict:
            raise UserError(f"{path}: {reason} (--strict)")
        else:
            reasons[path] = reason
    return results, reasons


def result_or_reason(check: Callable[[str], Result], path: str) -> tuple[Result | None, str]:
    """Return what `check` returns, or None and the reason if it rejects the recording."""
    problem = path_problem(path)
    if problem is not None:
        return None, problem
    try:
        return check(path), ""
    except RejectedRecording as rejection:
        return None, rejection.reason


def run_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], nj: int, dask: str, title: str
) -> Iterator[Result]:
    """Yield function(item) of each item in order, with a progress bar. For `nj` and `dask` see `check_recordings`."""
    with parallel_backend(nj, dask):
        results = Parallel(return_as="generator")(delayed(function)(item) for item in items)
        yield from tqdm(results, total=len(items), desc=title, unit="file", disable=None)


@contextmanager
def parallel_backend(nj: int, dask: str) -> Iterator[None]:
    """Select where joblib runs: in `nj` processes (-1: one per core), or on the Dask cluster at an address.

    Raises:
        UserError: Dask is not installed, or no scheduler answers at the address.
    """
    if not dask:
        if nj == 0:
            raise UserError("--nj 0: give the number of processes, or -1 for one per core")
        with parallel_config(backend="loky", n_jobs=nj):
            yield
        return
    try:
        distributed: Any = importlib.import_module("distributed")  # it has no types
    except ImportError:
        raise UserError("--dask needs dask and distributed: pip install 'zfaudio[cluster]'") from None
    try:
        client = distributed.Client(dask, timeout=DASK_TIMEOUT)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--dask {dask}: no scheduler answers there ({str(error).splitlines()[0]})") from None
    with client, parallel_config(backend="dask", n_jobs=-1):
        yield


def path_problem(path: str) -> str | None:
    """Return the reason why a path cannot be written to wav.scp, None if it can."""
    if "\n" in path or "\r" in path:
        return "line break in the file's name"
    return None
