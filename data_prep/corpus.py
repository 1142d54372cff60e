"""Prepare a corpus by its name with lhotse: write lhotse's manifests to OUT/{train,valid,test}. No audio is copied."""

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zfaudio.command import run_command
from zfaudio.corpus.lhotse import read_manifests
from zfaudio.corpus.splits import SPLITS, describe, named_parts, split_at_random
from zfaudio.errors import UserError
from zfaudio.files import whole_file
from zfaudio.text import printable

FILES = ("recordings.jsonl.gz", "supervisions.jsonl.gz")


@dataclass(frozen=True)
class Corpus:
    """What there is to know of a corpus.

    Attributes:
        license: of the recordings.
        size: hours, speakers and sample rate.
        holds: what its folder holds, by which one sees that it is the right one.
        splits: lhotse's parts of each split, as the field uses them. Empty if there is no such custom.
        options: for lhotse's function, given the folder.
    """

    license: str
    size: str
    holds: str
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    options: Callable[[Path], dict[str, Any]] = lambda folder: {}


def vctk_options(folder: Path) -> dict[str, Any]:
    """Version 0.92 has other folders than 0.80."""
    return {"use_edinburgh_vctk_url": (folder / "wav48_silence_trimmed").is_dir()}


def parts_there(folder: Path) -> dict[str, Any]:
    """Prepare the parts that were downloaded. (lhotse would prepare all parts of LibriTTS.)"""
    parts = [part for names in LIBRI_SPLITS.values() for part in names if (folder / part).is_dir()]
    if not parts:
        raise UserError(f"{folder}: none of the parts {', '.join(sum(LIBRI_SPLITS.values(), ()))} is in it")
    return {"dataset_parts": parts}


# The mini LibriSpeech has parts of its own, train-clean-5 and dev-clean-2.
LIBRI_SPLITS = {
    "train": ("train-clean-100", "train-clean-360", "train-other-500", "train-clean-5"),
    "valid": ("dev-clean", "dev-clean-2"),
    "test": ("test-clean",),
}
NAMED_SPLITS = {"train": ("train",), "valid": ("valid", "dev"), "test": ("test",)}

CORPORA = {
    "aishell": Corpus(
        "Apache 2.0", "170 hours of Mandarin, 400 speakers, 16 kHz", "data_aishell/{wav,transcript}", NAMED_SPLITS
    ),
    "cmu_arctic": Corpus(
        "free, with its notice", "18 speakers, about an hour each, 16 kHz", "cmu_us_SPEAKER_arctic/{wav,etc}"
    ),
    "librispeech": Corpus(
        "CC BY 4.0",
        "982 hours, 2,484 speakers, 16 kHz",
        "train-clean-100, dev-clean, test-clean, ...",
        LIBRI_SPLITS,
        parts_there,
    ),
    "libritts": Corpus(
        "CC BY 4.0",
        "585 hours, 2,456 speakers, 24 kHz",
        "train-clean-100, dev-clean, test-clean, ...",
        LIBRI_SPLITS,
        parts_there,
    ),
    "ljspeech": Corpus("public domain", "24 hours, one speaker, 22.05 kHz", "metadata.csv, wavs"),
    "speechcommands": Corpus(
        "CC BY 4.0",
        "105,829 words of a second, 2,618 speakers, 16 kHz",
        "speech_commands_v0.02, speech_commands_test_set_v0.02",
        NAMED_SPLITS,
        lambda folder: {"speechcommands_version": "2"},
    ),
    "vctk": Corpus(
        "CC BY 4.0 (version 0.92)",
        "44 hours, 110 speakers, 48 kHz",
        "speaker-info.txt, txt, wav48_silence_trimmed (0.92) or wav48 (0.80)",
        options=vctk_options,
    ),
}


def corpus(
    name: str,
    folder: str | Path,
    out: str | Path,
    *,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    nj: int = 1,
) -> None:
    """Write lhotse's manifests OUT/train, OUT/valid and OUT/test of a corpus that lhotse knows by name.

    The splits are those that the field uses, where there are any. A split that is missing is cut off the training part,
    by speaker if at least three speakers are known.

    Args:
        name: the corpus, such as ljspeech. --list prints the names.
        folder: where the corpus is, unpacked.
        out: folder for the manifests.
        valid_fraction: fraction of the speakers or recordings for validation, if the corpus has no such split.
        test_fraction: fraction of the speakers or recordings for testing, if the corpus has no such split.
        seed: seed of the random split.
        nj: number of threads, for corpora with which lhotse uses several.

    Raises:
        UserError: lhotse is not installed or knows no such corpus, or cannot prepare the folder.
    """
    folder, out = Path(folder).absolute(), Path(out)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    name = name.lower().replace("-", "_")
    known = CORPORA.get(name)
    prepare, options = find_preparation(name), known.options(folder) if known else {}
    needed = needed_options(prepare, options)
    if len(needed) != 1:
        raise UserError(
            f"{name}: lhotse needs {', '.join(needed) or 'other options'}, not one folder; have it write manifests for "
            "`zfaudio shard`"
        )
    if "num_jobs" in inspect.signature(prepare).parameters:
        options["num_jobs"] = nj
    try:
        parts = collect_parts(prepare(**{needed[0]: folder}, **options))
    except UserError:
        raise
    except Exception as error:  # whatever a preparation raises, when files are not where it looks for them
        said = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        holds = f"; it should hold {known.holds}" if known else ""
        raise UserError(f"{folder}: lhotse cannot prepare it as {name} ({said}){holds}") from None
    splits = assign_parts(parts, known.splits if known else {})
    fractions = {"valid": valid_fraction, "test": test_fraction}
    missing = {split: 0.0 if splits.get(split) else fraction for split, fraction in fractions.items()}
    supervisions = {split: [one for part in splits[split] for one in parts[part][1]] for split in splits}
    supervisions = cut_off(supervisions["train"], missing, seed) | {
        split: ones for split, ones in supervisions.items() if split != "train" and ones
    }
    recordings = {one.id: one for part in parts.values() for one in part[0]}
    for split in SPLITS:
        write_split(out / split, supervisions.get(split, []), recordings)


def find_preparation(name: str) -> Callable[..., Any]:
    """Find lhotse's function for a corpus. Raises UserError if there is none, or no lhotse."""
    recipes = lhotse_module("lhotse.recipes")
    prepare: Callable[..., Any] | None = getattr(recipes, f"prepare_{name}", None)
    if prepare is None:
        raise UserError(f"--name {name}: lhotse prepares no such corpus; --list prints the names")
    return prepare


def needed_options(prepare: Callable[..., Any], given: Collection[str]) -> list[str]:
    """Names of the arguments that a function of lhotse needs besides those that are given."""
    parameters = inspect.signature(prepare).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.name not in given]


def lhotse_module(name: str) -> Any:
    """Import a module of lhotse. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"corpora by name need lhotse: pip install 'zfaudio[lhotse]' ({error})") from None


def collect_parts(prepared: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """The recordings and supervisions of each part that lhotse's functions return in dictionaries of dictionaries.

    Raises:
        UserError: there are none.
    """
    if not isinstance(prepared, Mapping):
        raise UserError(f"lhotse returns no recordings and supervisions of {name or 'this corpus'}")
    if "recordings" in prepared and "supervisions" in prepared:
        return {name or "all": (prepared["recordings"], prepared["supervisions"])}
    parts: dict[str, tuple[Any, Any]] = {}
    for key, inner in prepared.items():
        parts |= collect_parts(inner, f"{name}-{key}" if name else str(key))
    return parts


def assign_parts(parts: Mapping[str, Any], splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Assign lhotse's parts to splits, and print which are not used. Without a training part, all are for training.

    Args:
        parts: by name.
        splits: names of the parts of each split; if there are none, the usual ones.
    """
    if not splits:
        splits = {split: [part] for split, part in named_parts(parts).items()}
    assigned = {split: [part for part in names if part in parts] for split, names in splits.items()}
    if not assigned.get("train"):
        assigned = {"train": list(parts)}
    unused = sorted(parts.keys() - {part for names in assigned.values() for part in names})
    if unused:
        print(f"not used: the parts {', '.join(unused)}")
    return assigned


def cut_off(supervisions: Sequence[Any], fractions: Mapping[str, float], seed: int) -> dict[str, list[Any]]:
    """Split the supervisions of a training part by speaker, or by recording if fewer than three speakers are known.

    Args:
        supervisions: of lhotse.
        fractions: of validation and test; 0 for a split that is there already.
        seed: seed of the split.
    """
    if not any(fractions.values()):
        return {"train": list(supervisions)}
    by_speaker = len({one.speaker for one in supervisions if one.speaker}) > 2
    groups: dict[str, list[Any]] = {}
    for one in supervisions:
        groups.setdefault((by_speaker and one.speaker) or one.recording_id, []).append(one)
    names = split_at_random(list(groups), fractions["valid"], fractions["test"], seed)
    return {split: [one for name in names[split] for one in groups[name]] for split in SPLITS if names[split]}


def write_split(folder: Path, supervisions: Iterable[Any], recordings: Mapping[str, Any]) -> None:
    """Write the manifests of a split, and print what is in it. An empty split has no files.

    Args:
        folder: where to write.
        supervisions: of lhotse.
        recordings: of lhotse, by id.
    """
    ordered = sorted(supervisions, key=lambda one: one.id)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)  # an earlier run may have written it
    if not ordered:
        return
    lhotse = lhotse_module("lhotse")
    used = sorted({one.recording_id for one in ordered})
    sets = {
        "recordings.jsonl.gz": lhotse.RecordingSet.from_recordings(recordings[id] for id in used),
        "supervisions.jsonl.gz": lhotse.SupervisionSet.from_segments(ordered),
    }
    for name, content in sets.items():
        with whole_file(folder / name) as part:
            content.to_file(part)
    print(f"{folder.name}: {describe(read_manifests(folder))}")


def names() -> str:
    """The names of corpora: those of the table with license and size, and others that lhotse prepares from a folder."""
    lines = [f"{name:<16}{one.license:<26}{one.size}" for name, one in CORPORA.items()]
    recipes = lhotse_module("lhotse.recipes")
    prepared = [name.removeprefix("prepare_") for name in dir(recipes) if name.startswith("prepare_")]
    others = [name for name in prepared if len(needed_options(find_preparation(name), ())) == 1]
    more = ", ".join(sorted(set(others) - CORPORA.keys()))
    return "\n".join([*lines, "", f"not tried here, but known to lhotse, which has their licenses: {more}"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(names())
    else:
        run_command(corpus, sys.argv[1:], prog="python -m data_prep.corpus")
