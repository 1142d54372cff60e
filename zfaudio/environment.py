"""What the libraries beneath read from the environment, once, before they are loaded."""

import os

SETTINGS = {
    # Turns that a thread waits awake for its next piece of work before it sleeps. Sleeping at once (as with
    # OMP_WAIT_POLICY=passive) makes a step of training half again as long on idle cores; staying awake, as is usual,
    # makes it fifty times as long where other programs use the cores too.
    "GOMP_SPINCOUNT": "5000",
    # Large tensors in pages of 2 MB: a step of training takes and returns hundreds of megabytes.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare_environment() -> None:
    """Set what is not set yet. Has an effect before torch is imported only."""
    for name, value in SETTINGS.items():
        if not (name == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in os.environ):  # which it would override
            os.environ.setdefault(name, value)
