"""Read labels with times, such as phones or words, in NIST's ctm format."""

from dataclasses import dataclass
from pathlib import Path

from zfaudio.errors import UserError


@dataclass(frozen=True)
class TimedLabel:
    """A phone or word of an utterance; times are in seconds from the start of the utterance."""

    start: float
    end: float
    label: str


Alignment = dict[str, list[TimedLabel]]  # the labels of each utterance, in order of time


def read_ctm(path: Path, what: str, source: str) -> Alignment:
    """Read a CTM file, whose lines are: utterance, channel, start, duration (both in seconds), label.

    Args:
        path: the file.
        what: what its labels are, such as "phone".
        source: what writes such files, for error messages.

    Raises:
        UserError: the file is missing or empty, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {what} alignments are written by {source}") from None
    alignment: Alignment = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            start, duration, label = float(fields[2]), float(fields[3]), fields[4]
        except (IndexError, ValueError):
            raise UserError(
                f"{path}:{number}: {line!r} is not UTTERANCE CHANNEL START DURATION {what.upper()}"
            ) from None
        alignment.setdefault(fields[0], []).append(TimedLabel(start, start + duration, label))
    if not alignment:
        raise UserError(f"{path}: holds no {what}s")
    for labels in alignment.values():
        labels.sort(key=lambda one: one.start)
    return alignment
