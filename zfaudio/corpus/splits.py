"""Split a corpus into training, validation and test utterances, and write their data directories."""

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from zfaudio.corpus.kaldi import Reject, Utterance, utterance_seconds, write_data_dir, write_rejects
from zfaudio.corpus.kaldi_tables import KEYED_BY_UTTERANCE, KEYED_OTHERWISE
from zfaudio.errors import UserError

SPLITS = ("train", "valid", "test")

# Names that the data directories of each split usually have.
SPLIT_NAMES = {
    "train": ("train",),
    "valid": ("valid", "dev", "cv", "validation", "val"),
    "test": ("test", "eval", "evaluation"),
}

Item = TypeVar("Item")


def named_parts(names: Collection[str]) -> dict[str, str]:
    """Find the folder of each split by its usual names, of which the first has priority."""
    found = {split: next((name for name in usual if name in names), None) for split, usual in SPLIT_NAMES.items()}
    return {split: name for split, name in found.items() if name is not None}


def part_of(folder: Path, split: str) -> Path:
    """The folder of a split by its usual names, or the folder itself if it has none, as of a corpus split at random."""
    found = named_parts([path.name for path in folder.glob("*/")]).get(split)
    return folder / found if found else folder


def split_in_order(items: Sequence[Item], valid_fraction: float, test_fraction: float) -> dict[str, list[Item]]:
    """Use the first items for training, the next ones for validation and the last ones for testing.

    A split whose fraction is above zero gets at least one item.

    Raises:
        UserError: the fractions are not possible, or no item would be left for training.
    """
    if not 0 <= valid_fraction < 1 or not 0 <= test_fraction < 1 or valid_fraction + test_fraction >= 1:
        raise UserError(
            f"valid-fraction {valid_fraction} and test-fraction {test_fraction}: each must be at least 0, and their sum"
            " below 1"
        )
    valid, test = (max(round(f * len(items)), 1) if f else 0 for f in (valid_fraction, test_fraction))
    if valid + test >= len(items):
        raise UserError(
            f"{len(items)} files, speakers or pieces are too few to split into training, validation and test;"
            " set valid-fraction and test-fraction to 0"
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
    """Split names at random. The result does not depend on their order. Raises what `split_in_order` raises."""
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    return split_in_order(shuffled, valid_fraction, test_fraction)


def write_splits(out: Path, splits: Mapping[str, Sequence[Utterance]], rejects: Sequence[Reject]) -> None:
    """Write the data directories OUT/SPLIT and OUT/rejects.txt, and print what they hold.

    An empty split gets no directory. Tables that an earlier run wrote for it are removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for split, utterances in splits.items():
        if utterances:
            write_data_dir(out / split, utterances)
        else:
            for name in (*KEYED_BY_UTTERANCE, *KEYED_OTHERWISE):
                (out / split / name).unlink(missing_ok=True)
        print(f"{split}: {describe(utterances)}")
    write_rejects(out / "rejects.txt", rejects)
    print(f"rejected: {len(rejects)}" + (f", listed in {out / 'rejects.txt'}" if rejects else ""))


def describe(utterances: Sequence[Utterance]) -> str:
    """Describe utterances by their number, the number of speakers and the minutes."""
    speakers = describe_speakers(len({utterance.speaker for utterance in utterances}), len(utterances))
    minutes = sum(utterance_seconds(utterance) or 0.0 for utterance in utterances) / 60
    return f"{len(utterances)} utterances, {speakers}, {minutes:.1f} minutes"


def describe_speakers(speakers: int, utterances: int) -> str:
    """The number of speakers in words. As many as utterances usually means that the speakers are unknown."""
    if speakers == utterances > 1:
        return "as many speakers (one per utterance if unknown)"
    return f"{speakers} speakers"
