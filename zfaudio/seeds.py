"""One way to derive the seed of every random stream."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def derive_seed(*parts: int | str) -> int:
    """A seed of 64 bits that depends on `parts` alone: the same in every process and on every machine.

    Name the purpose in one of the parts where two streams would otherwise get the same ones.
    """
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def cpu_generator(*parts: int | str) -> "Generator":
    """A generator on the CPU, where torch draws the same numbers on every machine, seeded from `parts`."""
    from torch import Generator

    return Generator().manual_seed(torch_seed(*parts))


def torch_seed(*parts: int | str) -> int:
    """`derive_seed` within the range that every function of torch takes, which is 63 bits."""
    return derive_seed(*parts) >> 1
