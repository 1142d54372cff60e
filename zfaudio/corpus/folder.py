"""Turn any folder of audio into utterances of a training, a validation and a test split."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zfaudio.config import SHORTEST_SECONDS, FolderConfig
from zfaudio.corpus.audio import duration, open_audio, read_blocks
from zfaudio.corpus.converters import ffmpeg_command
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.pauses import Pieces, cut_at_fixed_length, cut_at_pauses, measure_energy
from zfaudio.corpus.search import FOREIGN_SUFFIXES, HEADERLESS_SUFFIXES, FoundFiles, find_files, suffix_of
from zfaudio.corpus.splits import SPLITS, named_parts, split_at_random, split_in_order
from zfaudio.errors import UserError


@dataclass(frozen=True)
class RecordingInfo:
    """The length of a recording and the pieces to cut it into, if any."""

    seconds: float
    pieces: Pieces


def prepare_folder(
    folder: str | Path,
    config: FolderConfig,
    nj: int = 1,
    dask: str = "",
    strict: bool = False,
    decode: bool = True,
    parts: Mapping[str, str] | None = None,
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """Find the utterances of a folder of audio, and print which files are left aside because they are no audio.

    Args:
        folder: folder of audio, searched with its subfolders.
        config: how to split the recordings and cut long ones.
        nj: number of processes that check recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes.
        strict: stop at the first recording that cannot be used.
        decode: decode each recording to its end to check it. If false, only the headers of recordings that are not cut
            are read, and errors after the header are found when the recordings are decoded later.
        parts: subfolders that are the splits, by the name of the split. If none is given, the recordings are split.

    Returns:
        The utterances of each split (train, valid, test), and the recordings that were left out.

    Raises:
        UserError: there is no such folder or nothing usable in it, or an option does not fit it; with `strict`, a
            recording cannot be used.
    """
    folder = Path(folder).absolute()
    found = find_files(folder)
    files, reasons = usable_files(found)
    listed = None
    if config.lists:
        listed = read_lists(Path(config.lists), files)
    elif parts:
        listed = files_of_parts(folder, files, parts)
    else:
        warn_of_parts(files)
    for line in found.describe_rest():
        print(line)
    if listed is not None:
        unused = set(files).difference(*listed.values())
        if unused:
            print(f"not in any split: {len(unused)} recordings")
        files = sorted(file for names in listed.values() for file in names)
    if not files:
        least = min(reasons.items(), default=None)
        raise UserError(f"{folder}: no audio files in it" + (f" that can be read; {': '.join(least)}" if least else ""))
    speakers = find_speakers(files, config.speaker_pattern, folder.name)
    ids = utterance_ids(files, speakers)
    paths = {str(folder / file): file for file in files}
    inspect = partial(inspect_recording, config=config, decode=decode)
    recordings, rejected = check_recordings(inspect, list(paths), nj, dask, strict)
    reasons |= {paths[path]: reason for path, reason in rejected.items()}
    rejects = [Reject(ids.get(file, "-"), str(folder / file), reason) for file, reason in sorted(reasons.items())]
    if not recordings:
        raise UserError(f"{folder}: none of {len(files)} recordings is usable; {files[0]}: {reasons[files[0]]}")
    utterances = {
        paths[path]: cut_utterances(path, ids[paths[path]], speakers.get(paths[path]), info)
        for path, info in recordings.items()
    }
    if listed is not None:
        return {split: utterances_of_files(utterances, listed[split]) for split in SPLITS}, rejects
    return split_utterances(utterances, speakers, config), rejects


def usable_files(found: FoundFiles) -> tuple[list[str], dict[str, str]]:
    """Return the recordings to open, and the reasons why others are not opened, by file.

    Formats that libsndfile cannot read are opened if ffmpeg is installed.
    """
    reasons = dict.fromkeys(found.misnamed, "audio under the suffix of something else; rename it to use it")
    reasons |= found.unreadable
    converted = []
    for file in found.foreign:
        suffix = suffix_of(file)
        if suffix in HEADERLESS_SUFFIXES:
            reasons[file] = f"samples without a header ({suffix}): nothing says their rate; convert it to FLAC"
        elif suffix in FOREIGN_SUFFIXES and ffmpeg_command(file) is None:
            reasons[file] = f"libsndfile cannot read {suffix}; install ffmpeg, or convert it to FLAC"
        else:
            converted.append(file)
    return sorted(found.audio + converted), reasons


def files_of_parts(folder: Path, files: Sequence[str], parts: Mapping[str, str]) -> dict[str, list[str]]:
    """Find the files of each split in the subfolder that is this split.

    Raises:
        UserError: there is no recording in a subfolder.
    """
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, name in parts.items():
        inside = name.strip("/") + "/"
        listed[split] = [file for file in files if file.startswith(inside)]
        if not listed[split]:
            raise UserError(f"--{split} {name}: no audio files in {folder / name}")
    return listed


def warn_of_parts(files: Sequence[str]) -> None:
    """Print how to keep subfolders apart that are named like splits, because all recordings are split anew."""
    parts = named_parts({file.split("/")[0] for file in files if "/" in file})
    if "train" in parts and len(parts) > 1:
        options = " ".join(f"--{split} {name}" for split, name in parts.items())
        print(f"the folders {', '.join(parts.values())} are mixed and split anew; {options} keeps them as splits")


def read_lists(lists: Path, files: Sequence[str]) -> dict[str, list[str]]:
    """Read the files of each split from LISTS/train.txt, valid.txt and test.txt. A split without a list is empty.

    Raises:
        UserError: there is no list, or a list names a file that is not in the folder or that is listed twice.
    """
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    present, seen = set(files), set[str]()
    for split in SPLITS:
        path = lists / f"{split}.txt"
        if not path.is_file():
            continue
        content = path.read_bytes().decode("utf-8-sig", "surrogateescape")  # names of files may be any bytes
        names = [line.strip().removeprefix("./") for line in content.split("\n")]
        for name in filter(None, names):
            if name not in present:
                raise UserError(f"{path}: {name} is not an audio file of the folder")
            if name in seen:
                raise UserError(f"{path}: {name} is listed a second time")
            seen.add(name)
            listed[split].append(name)
    if not seen:
        raise UserError(f"{lists}: no train.txt, valid.txt or test.txt that lists a file")
    return listed


def find_speakers(files: Sequence[str], pattern: str, root: str) -> dict[str, str]:
    """Find the speaker of each file.

    Args:
        files: paths below the folder.
        pattern: see `FolderConfig.speaker_pattern`.
        root: name of the folder.

    Returns:
        Speaker ids that are safe for Kaldi, by file. Empty if speakers are not known.

    Raises:
        UserError: the pattern is not a regular expression, has no group named speaker, or does not match a file's path.
    """
    if not pattern:
        folders = {file: Path(file).parent.name or root for file in files}
        return safe_names(folders) if len(set(folders.values())) > 1 else {}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--folder.speaker-pattern {pattern!r}: {error}") from None
    if "speaker" not in compiled.groupindex:
        raise UserError(f"--folder.speaker-pattern {pattern!r}: no group (?P<speaker>...) in it")
    speakers = {}
    for file in files:
        match = compiled.search(file)
        if match is None or not match["speaker"]:
            raise UserError(f"--folder.speaker-pattern {pattern!r}: no speaker in {file}")
        speakers[file] = match["speaker"]
    return safe_names(speakers)


def safe_names(names: dict[str, str]) -> dict[str, str]:
    """Replace all characters but word characters and dots in names, given by file. Different names stay different.

    Kaldi sorts by utterance, and by speaker and then utterance. Both orders agree only if no speaker's name contains a
    character that sorts before the `-` between speaker and utterance.
    """
    safe: dict[str, str] = {}
    used: set[str] = set()
    for name in sorted(set(names.values())):
        safe[name] = make_unique(re.sub(r"[^\w.]", "_", name), used)
    return {file: safe[name] for file, name in names.items()}


def make_unique(name: str, used: set[str]) -> str:
    """Append a number to a name if it is used already, and add the result to the used names."""
    candidate, number = name, 2
    while candidate in used:
        candidate, number = f"{name}_{number}", number + 1
    used.add(candidate)
    return candidate


def utterance_ids(files: Sequence[str], speakers: dict[str, str]) -> dict[str, str]:
    """Make a unique id for each file: speaker-name, or only the name if the speaker is not known.

    If several files of a speaker have the same name, their whole paths are used instead of their names.
    """
    stems = {file: Path(file).stem for file in files}
    count = Counter((speakers.get(file), stem) for file, stem in stems.items())
    used: set[str] = set()
    ids = {}
    for file in sorted(files):
        name = stems[file] if count[speakers.get(file), stems[file]] == 1 else file
        name = re.sub(r"[^\w.]", "_", name)
        ids[file] = make_unique(f"{speakers[file]}-{name}" if file in speakers else name, used)
    return ids


def inspect_recording(path: str, config: FolderConfig, decode: bool = True) -> RecordingInfo:
    """Measure a recording and decide where to cut it. For `decode` see `prepare_folder`.

    Raises:
        RejectedRecording: it cannot be used.
    """
    with open_audio(path) as sound:
        seconds = duration(sound)
        too_long = config.cut != "none" and seconds > config.max_seconds
        if too_long and config.cut == "silence":
            energies, step = measure_energy(sound)
            return RecordingInfo(seconds, cut_at_pauses(energies, step, seconds, config.max_seconds))
        if decode:
            for _ in read_blocks(sound):
                pass
    return RecordingInfo(
        seconds, cut_at_fixed_length(seconds, config.max_seconds, SHORTEST_SECONDS) if too_long else []
    )


def cut_utterances(path: str, id: str, speaker: str | None, info: RecordingInfo) -> list[Utterance]:
    """Return the recording as one utterance, or its pieces. If the speaker is not known, the recording's id is used."""
    if not info.pieces:
        return [Utterance(id, speaker or id, path, duration=info.seconds)]
    return [
        Utterance(f"{id}-{number:05d}", speaker or id, path, start, end, recording_id=id, duration=end - start)
        for number, (start, end) in enumerate(info.pieces)
    ]


def split_utterances(
    utterances: dict[str, list[Utterance]], speakers: dict[str, str], config: FolderConfig
) -> dict[str, list[Utterance]]:
    """Split the speakers or files at random, or the pieces in their order if there are fewer than three files.

    Args:
        utterances: by file.
        speakers: by file, for the files whose speaker is known.
        config: the fractions, the seed and what to split by.

    Raises:
        UserError: the corpus is to be split by speaker but fewer than two are known, or there is too little to split.
    """
    files_of_speakers: dict[str, list[str]] = {}
    for file in utterances:
        files_of_speakers.setdefault(speakers.get(file, ""), []).append(file)
    if config.split_by == "speaker" and len(files_of_speakers) < 2:
        raise UserError(
            "--folder.split-by speaker: fewer than two speakers; give --folder.speaker-pattern or split by file"
        )
    if config.split_by == "speaker" or (config.split_by == "auto" and len(files_of_speakers) > 2):
        names = split_at_random(list(files_of_speakers), config.valid_fraction, config.test_fraction, config.seed)
        files = {split: [file for name in names[split] for file in files_of_speakers[name]] for split in SPLITS}
        return {split: utterances_of_files(utterances, files[split]) for split in SPLITS}
    if len(utterances) > 2:
        files = split_at_random(list(utterances), config.valid_fraction, config.test_fraction, config.seed)
        return {split: utterances_of_files(utterances, files[split]) for split in SPLITS}
    pieces = utterances_of_files(utterances, sorted(utterances))
    return split_in_order(pieces, config.valid_fraction, config.test_fraction)


def utterances_of_files(utterances: dict[str, list[Utterance]], files: Iterable[str]) -> list[Utterance]:
    """Collect the utterances of files, sorted by id. Files that were rejected have none."""
    return sorted((u for file in files for u in utterances.get(file, [])), key=lambda utterance: utterance.id)
