"""Damage files in every way a disk, a network or a stranger might, and see what their readers make of them."""

import multiprocessing
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 10.0  # that one input may take

Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Format:
    """A kind of file, a good one, and what reads it."""

    name: str
    good: Path  # a file, or a folder whose file `damaged` is mutated
    damaged: str  # path of the file below `good`; empty if `good` is the file
    read: Callable[[Path], Any]  # called with a copy of `good`


@dataclass
class Tally:
    """What happened to the inputs of a format."""

    outcomes: Counter[str] = field(default_factory=Counter)  # read, refused, or a fault
    faults: list[str] = field(default_factory=list)
    most_megabytes: float = 0.0  # of the reader, above its own start
    good_megabytes: float = 0.0  # the same for the good file
    slowest: float = 0.0  # seconds


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(changed))
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_in_header(data: bytes, rng: random.Random) -> bytes:
    head = data[:512]
    return flip_bits(head, rng) + data[512:]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def drop_piece(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 4096) :]


def repeat_piece(data: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data)), rng.randrange(1, 4096)
    return data[: start + length] + data[start:]


def insert_noise(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.randrange(1, 256)) + data[start:]


def large_numbers(data: bytes, rng: random.Random) -> bytes:
    """Four or eight bytes that mean a huge or negative number in some order of bytes."""
    value = rng.choice((b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f", b"\0" * 4, b"\xff" * 8, b"\0" * 8))
    at = rng.randrange(min(len(data), 4096))
    return data[:at] + value + data[at + len(value) :]


def change_digits(data: bytes, rng: random.Random) -> bytes:
    """Another number, or what is none, in a text; in other files a byte like those of digits."""
    digits = [i for i, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
    if not digits:
        return flip_bits(data, rng)
    at = rng.choice(digits)
    replacement = rng.choice((b"-1", b"9" * 20, b"1e999", b"NaN", b"null", b'"x"', b"[]", b"{}", b"true", b"0", b"0.5"))
    return data[:at] + replacement + data[at + 1 :]


MUTATIONS: tuple[Mutate, ...] = (
    flip_bits,
    flip_in_header,
    cut,
    drop_piece,
    repeat_piece,
    insert_noise,
    large_numbers,
    change_digits,
)


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to three mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(MUTATIONS)(data, rng)
    return data


def run_format(one: Format, inputs: int, seed: int, scratch: Path) -> Tally:
    """Read `inputs` damaged copies of a format's good file, in a process of its own that is replaced if it dies."""
    tally = Tally()
    done = 0
    tally.good_megabytes = _good_memory(one, scratch)
    while done < inputs:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.get_context("fork").Process(
            target=_read_all, args=(one, done, inputs, seed, scratch, sender), daemon=True
        )
        worker.start()
        sender.close()
        began = time.perf_counter()
        while True:
            if not receiver.poll(SECONDS):
                worker.kill()
                _fault(tally, one, done, seed, f"hangs for more than {SECONDS:g} s")
                done += 1
                break
            try:
                outcome, megabytes = receiver.recv()
            except EOFError:
                worker.join()
                if done < inputs:
                    _fault(tally, one, done, seed, f"the process died with status {worker.exitcode}")
                    done += 1
                break
            tally.slowest = max(tally.slowest, time.perf_counter() - began)
            tally.most_megabytes = max(tally.most_megabytes, megabytes)
            if outcome in ("read", "refused"):
                tally.outcomes[outcome] += 1
            else:
                _fault(tally, one, done, seed, outcome)
            done += 1
            began = time.perf_counter()
        worker.join()
    return tally


def _fault(tally: Tally, one: Format, number: int, seed: int, what: str) -> None:
    tally.outcomes["fault"] += 1
    tally.faults.append(f"{one.name}, input {number} of seed {seed}: {what}")


def damaged_copy(one: Format, number: int, seed: int, scratch: Path) -> Path:
    """Damaged copy `number` of a format's good file or folder."""
    import shutil

    copy = scratch / f"{one.name}{one.good.suffix}"
    if one.good.is_dir():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(one.good, copy, symlinks=True)
    else:
        shutil.copyfile(one.good, copy)
    target = copy / one.damaged if one.damaged else copy
    target.write_bytes(damage(target.read_bytes(), random.Random(f"{seed} {one.name} {number}")))
    return copy


def _read_all(one: Format, first: int, inputs: int, seed: int, scratch: Path, sender: Any) -> None:
    """In the worker: read inputs first..inputs-1 and send what became of each, and the memory used so far."""
    from zfaudio.corpus.audio import RejectedRecording
    from zfaudio.errors import UserError

    start = _megabytes()
    for number in range(first, inputs):
        path = damaged_copy(one, number, seed, scratch)
        try:
            one.read(path)
            outcome = "read"
        except (UserError, RejectedRecording) as error:
            outcome = "refused" if "\n" not in str(error) else f"more than one line: {error!r}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]!r}"
        sender.send((outcome, _megabytes() - start))


def _good_memory(one: Format, scratch: Path) -> float:
    """Memory that reading the good file takes, in MB, in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def read() -> None:
        start = _megabytes()
        one.read(one.good)
        sender.send(_megabytes() - start)

    worker = multiprocessing.get_context("fork").Process(target=read)
    worker.start()
    worker.join()
    if worker.exitcode:
        raise RuntimeError(f"{one.name}: the good file cannot be read")
    return float(receiver.recv())


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
