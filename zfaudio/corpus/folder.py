"""Any folder of audio -> utterances, in training, validation and test parts."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from zfaudio.corpus.audio import AUDIO_SUFFIXES, AudioInfo, RejectedRecording, open_audio, read_blocks, too_short
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import examine, nameable
from zfaudio.corpus.pauses import fixed_pieces, loudness, quiet_pieces
from zfaudio.corpus.splits import SPLITS, split_at_random, split_in_order
from zfaudio.errors import UserError

# Audio that libsndfile does not read: named in the rejects rather than passed over.
FOREIGN_SUFFIXES = frozenset({".aac", ".amr", ".m4a", ".mp4", ".opus", ".webm", ".wma", ".wv"}) - AUDIO_SUFFIXES

Pieces = list[tuple[float, float]]


@dataclass(frozen=True)
class FolderConfig:
    """How a folder of audio becomes a corpus.

    Attributes:
        split_by: what stays together: speaker, file, or auto (speaker where there are three or more, else file).
        speaker_pattern: regular expression with a group called speaker, searched in each file's path below the
            folder, as in '^(?P<speaker>[^/]+)/'. Empty: the name of the file's folder, if there are several.
        lists: folder with train.txt, valid.txt and test.txt, a path below the audio folder on each line; the
            files listed there are used, and nothing else is decided.
        valid_fraction: share of the speakers or files kept for validation.
        test_fraction: share of the speakers or files kept for testing.
        seed: of the random split.
        cut: cut recordings longer than max_seconds at their quietest moments (silence), every max_seconds
            (fixed), or not (none).
        max_seconds: the most a piece may last.
        shortest_seconds: recordings shorter than this (one frame) are rejected.
    """

    split_by: Literal["auto", "speaker", "file"] = "auto"
    speaker_pattern: str = ""
    lists: str = ""
    valid_fraction: float = 0.05
    test_fraction: float = 0.05
    seed: int = 0
    cut: Literal["silence", "fixed", "none"] = "silence"
    max_seconds: float = 15.0
    shortest_seconds: float = 0.0125

    def __post_init__(self) -> None:
        if self.max_seconds <= 2 * self.shortest_seconds:
            raise UserError(f"--folder.max-seconds {self.max_seconds}: must be longer than two frames")


@dataclass(frozen=True)
class Examined:
    """What a recording holds and where it is cut."""

    info: AudioInfo
    pieces: Pieces


def prepare_folder(
    folder: Path, config: FolderConfig, nj: int = 1, dask: str = "", strict: bool = False, decode: bool = True
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """Utterances of a folder by split (train, valid, test), and what was left out.

    Args:
        folder: of audio, with its subfolders.
        config: how it is split and its recordings are cut.
        nj: processes that look into recordings.
        dask: address of a Dask scheduler to use instead.
        strict: stop at the first recording that cannot be used.
        decode: look at every recording to its end. Without, of those that are not cut only the header is read: whoever
            decodes them next finds what is wrong behind it.

    Raises:
        UserError: no folder, nothing usable in it, options that do not fit; with `strict` the first bad recording.
    """
    folder = Path(folder).absolute()
    files, foreign = find_audio(folder)
    listed = read_lists(Path(config.lists), files) if config.lists else None
    if listed is not None:
        files = sorted(file for names in listed.values() for file in names)
    if not files:
        raise UserError(f"{folder}: no audio files in it")
    speakers = speakers_of(files, config.speaker_pattern, folder.name)
    ids = utterance_ids(files, speakers)
    reasons = {file: reason for file in files if (reason := nameable(str(folder / file)))}
    paths = {str(folder / file): file for file in files if file not in reasons}
    examined, bad = examine(partial(examine_recording, config=config, decode=decode), list(paths), nj, dask, strict)
    reasons |= {paths[path]: reason for path, reason in bad.items()}
    reasons |= {file: f"libsndfile reads no {Path(file).suffix}; convert it to FLAC" for file in foreign}
    rejects = [Reject(ids.get(file, "-"), str(folder / file), reason) for file, reason in sorted(reasons.items())]
    if not examined:
        raise UserError(f"{folder}: none of {len(files)} recordings is usable; {files[0]}: {reasons[files[0]]}")
    utterances = {
        paths[path]: utterances_of(path, ids[paths[path]], speakers.get(paths[path]), found)
        for path, found in examined.items()
    }
    if listed is not None:
        return {split: gather(utterances, listed[split]) for split in SPLITS}, rejects
    return split_utterances(utterances, speakers, config), rejects


def find_audio(folder: Path) -> tuple[list[str], list[str]]:
    """Paths below the folder, sorted: those of audio, and of audio libsndfile does not read. Hidden files are not seen.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = []
    for parent, _, files in os.walk(folder):
        below = "" if parent == str(folder) else os.path.relpath(parent, folder) + "/"
        names += [below + name for name in files if not name.startswith(".")]
    suffixes = {name: os.path.splitext(name)[1].lower() for name in sorted(names)}
    audio = [name for name, suffix in suffixes.items() if suffix in AUDIO_SUFFIXES]
    return audio, [name for name, suffix in suffixes.items() if suffix in FOREIGN_SUFFIXES]


def read_lists(lists: Path, files: Sequence[str]) -> dict[str, list[str]]:
    """Files of each split as DIR/train.txt, valid.txt and test.txt name them; a split without a list is empty.

    Raises:
        UserError: no list, a file that is not in the folder, or one named twice.
    """
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    present, seen = set(files), set[str]()
    for split in SPLITS:
        path = lists / f"{split}.txt"
        if not path.is_file():
            continue
        names = [line.strip().removeprefix("./") for line in path.read_text(encoding="utf-8").splitlines()]
        for name in filter(None, names):
            if name not in present:
                raise UserError(f"{path}: {name} is no audio file of the folder")
            if name in seen:
                raise UserError(f"{path}: {name} is listed a second time")
            seen.add(name)
            listed[split].append(name)
    if not seen:
        raise UserError(f"{lists}: no train.txt, valid.txt or test.txt with a file in it")
    return listed


def speakers_of(files: Sequence[str], pattern: str, root: str) -> dict[str, str]:
    """Speaker of each file by the pattern, else by its folder where there are several; empty: not known.

    Speaker names are made safe for Kaldi, different ones staying different.

    Raises:
        UserError: the pattern is no regular expression, has no group `speaker`, or fits none of a file's path.
    """
    if not pattern:
        folders = {file: Path(file).parent.name or root for file in files}
        return kaldi_names(folders) if len(set(folders.values())) > 1 else {}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--folder.speaker-pattern {pattern!r}: {error}") from None
    if "speaker" not in compiled.groupindex:
        raise UserError(f"--folder.speaker-pattern {pattern!r}: no group (?P<speaker>...) in it")
    found = {}
    for file in files:
        match = compiled.search(file)
        if match is None or not match["speaker"]:
            raise UserError(f"--folder.speaker-pattern {pattern!r}: no speaker in {file}")
        found[file] = match["speaker"]
    return kaldi_names(found)


def kaldi_names(names: dict[str, str]) -> dict[str, str]:
    """Names by file with only word characters and dots in them.

    Without a character that sorts before the `-` that joins speaker and utterance, Kaldi's two orders (by
    utterance, and by speaker then utterance) agree.
    """
    safe: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(set(names.values())):
        safe[name] = unused(re.sub(r"[^\w.]", "_", name), taken)
    return {file: safe[name] for file, name in names.items()}


def unused(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it the first that is not taken; it is taken then."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate


def utterance_ids(files: Sequence[str], speakers: dict[str, str]) -> dict[str, str]:
    """Unique id of each file: speaker-name, or the name alone where no speaker is known.

    Files of one speaker with the same name get their whole path for it.
    """
    stems = {file: Path(file).stem for file in files}
    count = Counter((speakers.get(file), stem) for file, stem in stems.items())
    taken: set[str] = set()
    ids = {}
    for file in sorted(files):
        name = stems[file] if count[speakers.get(file), stems[file]] == 1 else file
        name = re.sub(r"[^\w.]", "_", name)
        ids[file] = unused(f"{speakers[file]}-{name}" if file in speakers else name, taken)
    return ids


def examine_recording(path: str, config: FolderConfig, decode: bool = True) -> Examined:
    """Look into a recording and say where it is cut; for `decode` see `prepare_folder`. Raises RejectedRecording."""
    with open_audio(path) as sound:
        info = AudioInfo(sound.samplerate, sound.channels, sound.frames)
        if info.seconds < config.shortest_seconds:
            raise RejectedRecording(too_short(info.seconds, config.shortest_seconds))
        is_cut = config.cut != "none" and info.seconds > config.max_seconds
        if is_cut and config.cut == "silence":
            return Examined(info, quiet_pieces(*loudness(sound), info.seconds, config.max_seconds))
        if decode:
            for _ in read_blocks(sound):
                pass
    return Examined(info, fixed_pieces(info.seconds, config.max_seconds, config.shortest_seconds) if is_cut else [])


def utterances_of(path: str, id: str, speaker: str | None, examined: Examined) -> list[Utterance]:
    """The utterances of one recording: itself, or its pieces. A recording of no known speaker is its own."""
    seconds = examined.info.seconds
    if not examined.pieces:
        return [Utterance(id, speaker or id, path, duration=seconds)]
    return [
        Utterance(f"{id}-{number:05d}", speaker or id, path, start, end, recording_id=id, duration=end - start)
        for number, (start, end) in enumerate(examined.pieces)
    ]


def split_utterances(
    utterances: dict[str, list[Utterance]], speakers: dict[str, str], config: FolderConfig
) -> dict[str, list[Utterance]]:
    """Deal out speakers or files; with fewer than three of them, the pieces one after another.

    Raises:
        UserError: split by speaker asked for and fewer than two known, or too few to split.
    """
    fractions = config.valid_fraction, config.test_fraction
    by_speaker: dict[str, list[str]] = {}
    for file in utterances:
        by_speaker.setdefault(speakers.get(file, ""), []).append(file)
    if config.split_by == "speaker" and len(by_speaker) < 2:
        raise UserError(
            "--folder.split-by speaker: fewer than two speakers; give --folder.speaker-pattern or split by file"
        )
    if config.split_by == "speaker" or (config.split_by == "auto" and len(by_speaker) > 2):
        parts = split_at_random(list(by_speaker), *fractions, config.seed)
        return {split: gather(utterances, (f for s in parts[split] for f in by_speaker[s])) for split in SPLITS}
    if len(utterances) > 2:
        parts = split_at_random(list(utterances), *fractions, config.seed)
        return {split: gather(utterances, parts[split]) for split in SPLITS}
    return split_in_order(gather(utterances, sorted(utterances)), *fractions)


def gather(utterances: dict[str, list[Utterance]], files: Iterable[str]) -> list[Utterance]:
    """Utterances of the files, sorted by id; files that were rejected have none."""
    return sorted((u for file in files for u in utterances.get(file, [])), key=lambda utterance: utterance.id)
