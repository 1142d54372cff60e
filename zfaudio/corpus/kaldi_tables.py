"""Read the tables of a Kaldi data directory and check that they agree with each other."""

import itertools
from pathlib import Path

from zfaudio.corpus.audio import RejectedRecording, open_audio
from zfaudio.errors import UserError

# A segment may end this many seconds after its recording, because the times in Kaldi's tables are often rounded.
ROUNDING = 0.02

# Rows of a table: (first field, rest of the line).
Table = list[tuple[str, str]]

KEYED_BY_UTTERANCE = ("utt2spk", "segments", "text", "utt2dur", "utt2lang", "utt2uniq")
KEYED_OTHERWISE = ("spk2utt", "wav.scp", "reco2dur")


def read_table(path: Path) -> Table:
    """Read the rows of a table.

    Raises:
        UserError: the file is not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    fields = [line.split(maxsplit=1) for line in lines]
    return [(field[0] if field else "", field[1].strip() if len(field) > 1 else "") for field in fields]


def is_pipe(recording: str) -> bool:
    """Return whether an entry of wav.scp is a command instead of a file."""
    return recording.rstrip().endswith("|")


def validate_data_dir(path: Path) -> list[str]:
    """Return the problems of a data directory, one line each, as Kaldi's utils/validate_data_dir.sh finds them.

    Features and CMVN statistics are not checked. In addition, segments must lie within their recordings.
    """
    path = Path(path)
    if not path.is_dir():
        return ["no such directory"]
    missing = [f"no file {name}" for name in ("wav.scp", "utt2spk", "spk2utt") if not (path / name).is_file()]
    if missing:
        return missing
    names = [name for name in (*KEYED_BY_UTTERANCE, *KEYED_OTHERWISE) if (path / name).is_file()]
    tables = {name: read_table(path / name) for name in names}
    problems = [problem for name in names for problem in check_order(name, tables[name], path / name)]
    if problems:
        return problems  # the checks below rely on unique, sorted keys
    problems += check_speakers(tables["utt2spk"], tables["spk2utt"])
    utterances = [id for id, _ in tables["utt2spk"]]
    if "segments" not in tables:
        problems += check_same_keys("wav.scp", tables["wav.scp"], utterances, "utt2spk")
    for name in KEYED_BY_UTTERANCE:
        if name in tables:
            problems += check_same_keys(name, tables[name], utterances, "utt2spk")
    for id, recording in tables["wav.scp"]:
        if not recording or recording.startswith("~"):
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
    if "segments" in tables and not problems:
        problems += check_segments(tables)
    return problems


def check_order(name: str, table: Table, path: Path) -> list[str]:
    """Check that no line of a table is empty, and that its keys are unique and in C order (by code point)."""
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
        if previous > key:
            return [f"{name}: not sorted, {key} comes after {previous} (sort it with LC_ALL=C)"]
    return []


def check_speakers(utt2spk: Table, spk2utt: Table) -> list[str]:
    """Check that utt2spk and spk2utt agree, and that sorting by utterance also sorts by speaker."""
    problems = [f"utt2spk: {id} needs exactly one speaker" for id, speaker in utt2spk if len(speaker.split()) != 1]
    if problems:
        return problems
    by_speaker = sorted(utt2spk, key=lambda row: (row[1], row[0]))
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
        fields = rest.split()
        if len(fields) != 3 or not parse_duration(fields[2]) or not is_time(fields[1]):
            problems.append(f"segments: {id} {rest} is not RECORDING START END in seconds")
            continue
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
        if recording not in recordings:
            problems.append(f"segments: {id} is part of {recording}, which is not in wav.scp")
            continue
        if recording not in used:
            used[recording] = listed.get(recording) or recording_seconds(recordings[recording])
        seconds = used[recording]
        if start >= end:
            problems.append(f"segments: {id} ends at {end} s, before it starts at {start} s")
        elif seconds is not None and end > seconds + ROUNDING:
            problems.append(f"segments: {id} ends at {end} s, but its recording {recording} ends at {seconds:.3f} s")
    if not problems:
        unused = sorted(set(recordings) - set(used))
        problems += [f"wav.scp: {id} has no segment ({len(unused)} in all)" for id in unused[:1]]
    return problems


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
        with open_audio(recording) as sound:
            return float(sound.frames / sound.samplerate)
    except RejectedRecording:
        return None
