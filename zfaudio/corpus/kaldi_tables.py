"""Read the tables of a Kaldi data directory and check that they agree with each other."""

import itertools
import os
import re
from pathlib import Path

from zfaudio.corpus.audio import RejectedRecording, open_audio
from zfaudio.errors import UserError

# A segment may end this many seconds after its recording and is then cut, as in Kaldi's extract-segments.
MAX_OVERSHOOT = 0.5

# Rows of a table: (first field, rest of the line).
Table = list[tuple[str, str]]

KEYED_BY_UTTERANCE = ("utt2spk", "segments", "text", "utt2dur", "utt2lang", "utt2uniq")
KEYED_OTHERWISE = ("spk2utt", "wav.scp", "reco2dur")


def read_table(path: Path) -> Table:
    """Read the rows of a table. A byte order mark is dropped. Bytes that are not UTF-8 become lone surrogates.

    Raises:
        UserError: the file is UTF-16 text.
    """
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: not UTF-8 text but UTF-16; convert it with iconv")
    text = content.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    fields = [line.split(maxsplit=1) for line in text.removesuffix("\n").split("\n")]
    return [(field[0] if field else "", field[1].strip() if len(field) > 1 else "") for field in fields]


def is_pipe(recording: str) -> bool:
    """Return whether an entry of wav.scp is a command instead of a file."""
    return recording.rstrip().endswith("|")


def split_offset(recording: str) -> tuple[str, int]:
    """Split an entry of wav.scp such as wav.ark:1234 into the path and the offset in bytes, which is 0 for a file."""
    match = re.fullmatch(r"(.+):([0-9]{1,18})", recording)
    if match is None or os.path.exists(recording):
        return recording, 0
    return match[1], int(match[2])


def validate_data_dir(path: Path, to_read: bool = False) -> list[str]:
    """Return the problems of a data directory, one line each, as Kaldi's utils/validate_data_dir.sh finds them.

    Features and CMVN statistics are not checked. In addition, segments must lie within their recordings.

    Args:
        path: the data directory.
        to_read: find only what keeps its utterances from being read. spk2utt may be missing, as in the export of
            lhotse, and utterances need not sort as their speakers do then. What is wrong with a single segment or
            recording is left to the one who reads it.
    """
    path = Path(path)
    if not path.is_dir():
        return ["no such directory"]
    needed = ("wav.scp", "utt2spk") if to_read else ("wav.scp", "utt2spk", "spk2utt")
    missing = [f"no file {name}" for name in needed if not (path / name).is_file()]
    if missing:
        return missing
    names = [name for name in (*KEYED_BY_UTTERANCE, *KEYED_OTHERWISE) if (path / name).is_file()]
    tables = {name: read_table(path / name) for name in names}
    problems = [problem for name in names for problem in check_order(name, tables[name], path / name)]
    if problems:
        return problems  # the checks below rely on unique, sorted keys
    problems += check_speakers(tables["utt2spk"], tables.get("spk2utt"))
    utterances = [id for id, _ in tables["utt2spk"]]
    if "segments" not in tables:
        problems += check_same_keys("wav.scp", tables["wav.scp"], utterances, "utt2spk")
    for name in KEYED_BY_UTTERANCE:
        if name in tables:
            problems += check_same_keys(name, tables[name], utterances, "utt2spk")
    for id, recording in tables["wav.scp"]:
        if not to_read and (not recording or recording.startswith("~")):
            problems.append(f"wav.scp: {id} has no usable file name")
    for name in ("utt2dur", "reco2dur"):
        problems += [
            f"{name}: {id} {value} is not a duration" for id, value in tables.get(name, []) if not parse_duration(value)
        ]
    problems += [
        f"text: {id} contains the reserved symbol {word}"
        for id, words in tables.get("text", [])
        for word in words.split()
        if word in ("<s>", "</s>", "#0")
    ]
    if "segments" in tables and not problems and not to_read:
        problems += check_segments(tables)
    return problems


def check_order(name: str, table: Table, path: Path) -> list[str]:
    """Check that no line of a table is empty, and that its keys are unique and in C order (by byte)."""
    if path.stat().st_size == 0:
        return [f"{name}: empty file"]
    if not path.read_bytes().endswith(b"\n"):
        return [f"{name}: last line without newline"]
    for line, (key, _) in enumerate(table, start=1):
        if not key:
            return [f"{name}: line {line} is blank"]
    for (previous, _), (key, _) in itertools.pairwise(table):
        if previous == key:
            return [f"{name}: {key} is listed twice"]
        if as_bytes(previous) > as_bytes(key):
            return [f"{name}: not sorted, {key} comes after {previous} (sort it with LC_ALL=C)"]
    return []


def as_bytes(key: str) -> bytes:
    """Return the bytes of a key in its table."""
    return key.encode("utf-8", "surrogateescape")


def check_speakers(utt2spk: Table, spk2utt: Table | None) -> list[str]:
    """Check that utt2spk and spk2utt agree, and that sorting by utterance also sorts by speaker."""
    problems = [f"utt2spk: {id} needs exactly one speaker" for id, speaker in utt2spk if len(speaker.split()) != 1]
    if problems or spk2utt is None:
        return problems
    by_speaker = sorted(utt2spk, key=lambda row: (as_bytes(row[1]), as_bytes(row[0])))
    if by_speaker != utt2spk:
        return ["utt2spk: sorted by utterance but not by speaker; make speaker ids prefixes of utterance ids"]
    inverted = [(id, speaker) for speaker, ids in spk2utt for id in ids.split()]
    if inverted != utt2spk:
        differing = sorted(set(inverted) ^ set(utt2spk)) or inverted
        return [f"spk2utt: does not match utt2spk, first at {differing[0][0]}"]
    return []


def check_same_keys(name: str, table: Table, expected: list[str], expected_name: str) -> list[str]:
    """Check that a table has exactly the expected keys, which are those of the table `expected_name`."""
    keys = {key for key, _ in table}
    missing = sorted(set(expected) - keys)
    surplus = sorted(keys - set(expected))
    if missing:
        return [f"{name}: {missing[0]} of {expected_name} is missing ({len(missing)} in all)"]
    if surplus:
        return [f"{name}: {surplus[0]} is not in {expected_name} ({len(surplus)} in all)"]
    return []


def check_segments(tables: dict[str, Table]) -> list[str]:
    """Check that each segment lies within a recording of wav.scp, and that each recording has a segment."""
    recordings = dict(tables["wav.scp"])
    listed = {id: float(seconds) for id, seconds in tables.get("reco2dur", [])}
    problems: list[str] = []
    used: dict[str, float | None] = {}  # duration in seconds by recording id, None if it is not known
    for id, rest in tables["segments"]:
        try:
            recording, start, end, _ = parse_segment(rest)
        except ValueError as error:
            problems.append(f"segments: {id} {error}")
            continue
        if recording not in recordings:
            problems.append(f"segments: {id} is part of {recording}, which is not in wav.scp")
            continue
        if recording not in used:
            used[recording] = listed.get(recording) or recording_seconds(recordings[recording])
        seconds = used[recording]
        if seconds is not None and (end or start) > seconds + MAX_OVERSHOOT:
            problems.append(f"segments: {id} ends at {end} s, but its recording {recording} ends at {seconds:.3f} s")
    if not problems:
        unused = sorted(set(recordings) - set(used))
        problems += [f"wav.scp: {id} has no segment ({len(unused)} in all)" for id in unused[:1]]
    return problems


def parse_segment(rest: str) -> tuple[str, float, float | None, int | None]:
    """Parse what follows the utterance in a line of segments.

    Returns:
        The recording, the start and the end in seconds, and the channel, counted from 0. The end is None for -1, which
        means the end of the recording. The channel is None if there is no column for it.

    Raises:
        ValueError: it is something else; the text says what.
    """
    fields = rest.split()
    to_end = len(fields) > 2 and re.fullmatch(r"-1(\.0*)?", fields[2]) is not None
    if len(fields) not in (3, 4) or not is_time(fields[1]) or not (to_end or parse_duration(fields[2])):
        raise ValueError(f"{rest} is not RECORDING START END in seconds")
    if len(fields) == 4 and not re.fullmatch("[0-9]{1,4}", fields[3]):
        raise ValueError(f"{rest}: channel {fields[3]} is not a number from 0")
    start, end = float(fields[1]), None if to_end else float(fields[2])
    if end is not None and start >= end:
        raise ValueError(f"ends at {end} s, before it starts at {start} s")
    return fields[0], start, end, int(fields[3]) if len(fields) == 4 else None


def is_time(text: str) -> bool:
    """Return whether a text is a finite number of seconds that is not negative."""
    return text.strip("0.") == "" or parse_duration(text) > 0.0


def parse_duration(text: str) -> float:
    """Parse a positive, finite number of seconds. 0.0 if the text is anything else."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 < value < float("inf") else 0.0


def recording_seconds(recording: str) -> float | None:
    """Return the duration by the header. None for a command and for a file that cannot be read."""
    if is_pipe(recording):
        return None
    try:
        with open_audio(*split_offset(recording)) as sound:
            return float(sound.frames / sound.samplerate)
    except RejectedRecording:
        return None
