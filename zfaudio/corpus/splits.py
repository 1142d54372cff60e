"""Divide a corpus into training, validation and test parts, and write them."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from zfaudio.corpus.kaldi import Reject, Utterance, utterance_seconds, write_data_dir, write_rejects
from zfaudio.corpus.kaldi_tables import KEYED_BY_UTTERANCE, KEYED_OTHERWISE
from zfaudio.errors import UserError

SPLITS = ("train", "valid", "test")

Item = TypeVar("Item")


def split_in_order(items: Sequence[Item], valid_fraction: float, test_fraction: float) -> dict[str, list[Item]]:
    """The first of `items` for training, those that follow for validation, the last for testing.

    A part with a fraction above zero gets one item at least, as long as training keeps one.
    """
    if not 0 <= valid_fraction < 1 or not 0 <= test_fraction < 1 or valid_fraction + test_fraction >= 1:
        raise UserError(
            f"valid-fraction {valid_fraction} and test-fraction {test_fraction}: each from 0, below 1 together"
        )
    valid, test = (max(round(f * len(items)), 1) if f else 0 for f in (valid_fraction, test_fraction))
    if valid + test >= len(items):
        raise UserError(
            f"{len(items)} files, speakers or pieces are too few to split into training, validation and test parts;"
            " set their fractions (valid-fraction, test-fraction) to 0"
        )
    train = len(items) - valid - test
    return {
        "train": list(items[:train]),
        "valid": list(items[train : train + valid]),
        "test": list(items[train + valid :]),
    }


def split_at_random(
    names: Sequence[str], valid_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[str]]:
    """Names dealt out at random, the same way whatever the order they come in."""
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    return split_in_order(shuffled, valid_fraction, test_fraction)


def write_splits(out: Path, splits: Mapping[str, Sequence[Utterance]], rejects: Sequence[Reject]) -> None:
    """Write OUT/SPLIT data directories and OUT/rejects.txt, and print what they hold.

    An empty split gets no directory; tables of an earlier run in its place are removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for split, utterances in splits.items():
        if utterances:
            write_data_dir(out / split, utterances)
        else:
            for name in (*KEYED_BY_UTTERANCE, *KEYED_OTHERWISE):
                (out / split / name).unlink(missing_ok=True)
        print(f"{split}: {summary(utterances)}")
    write_rejects(out / "rejects.txt", rejects)
    print(f"rejected: {len(rejects)}" + (f", listed in {out / 'rejects.txt'}" if rejects else ""))


def summary(utterances: Sequence[Utterance]) -> str:
    """Counts and hours in words."""
    speakers = len({utterance.speaker for utterance in utterances})
    minutes = sum(utterance_seconds(utterance) or 0.0 for utterance in utterances) / 60
    return f"{len(utterances)} utterances, {speakers} speakers, {minutes:.1f} minutes"
