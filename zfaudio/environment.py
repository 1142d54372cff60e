"""What the libraries beneath take from the environment and the C library's memory, set once, before they are loaded."""

import ctypes
import os

SETTINGS = {
    # Turns that a thread waits awake for its next piece of work before it sleeps. Sleeping at once (as with
    # OMP_WAIT_POLICY=passive) makes a step of training half again as long on idle cores; staying awake, as is usual,
    # makes it fifty times as long where other programs use the cores too.
    "GOMP_SPINCOUNT": "5000",
    # Large tensors in pages of 2 MB: a step of training takes and returns hundreds of megabytes.
    "THP_MEM_ALLOC_ENABLE": "1",
}

# Parameters of mallopt(3), with their numbers in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def prepare_environment() -> None:
    """Set what is not set yet. Has an effect before torch is imported only."""
    for name, value in SETTINGS.items():
        if not (name == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in os.environ):  # which it would override
            os.environ.setdefault(name, value)
    if not any(name.startswith("MALLOC_") for name in os.environ):
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Keep for the next tensors the memory that tensors leave, instead of giving it back to the system.

    Memory fresh from the system costs more than what is computed in it: the kernel clears it page by page. Training on
    the CPU takes 2 to 6 % less time, scoring up to 20 %, for up to half as much memory again. Only glibc knows how.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_MAX, 0)  # no block, however large, is mapped on its own, and unmapped when freed
