"""What the LDC93S1 disc holds, and what a copy of it lacks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Speakers of Kaldi's development set, which are test speakers of the disc.
DEVELOPMENT = """
FAKS0 FDAC1 FJEM0 MGWT0 MJAR0 MMDB1 MMDM2 MPDF0 FCMH0 FKMS0 MBDG0 MBWM0 MCSH0 FADG0 FDMS0 FEDW0 MGJF0
MGLB0 MRTK0 MTAA0 MTDT0 MTHC0 MWJG0 FNMR0 FREW0 FSEM0 MBNS0 MMJR0 MDLS0 MDLF0 MDVC0 MERS0 FMAH0 FDRW0
MRCS0 MRJM4 FCAL1 MMWH0 FJSJ0 MAJC0 MJSW0 MREB0 FGJD0 FJMG0 MROA0 MTEB0 MJFC0 MRJR0 FMML0 MRWS1
"""

# The core test set: two men and one woman of each of the eight dialect regions.
CORE_TEST = """
MDAB0 MWBT0 FELC0 MTAS1 MWEW0 FPAS0 MJMP0 MLNT0 FPKT0 MLLL0 MTLS0 FJLM0
MBPM0 MKLT0 FNLP0 MCMJ0 MJDH0 FMGD0 MGRT0 MNJM0 FDHC0 MJLN0 MPAM0 FMLD0
"""

DEVELOPMENT_SPEAKERS = frozenset(DEVELOPMENT.split())
CORE_TEST_SPEAKERS = frozenset(CORE_TEST.split())

# Speakers of each part.
SPEAKERS = {"TRAIN": 462, "TEST": 168}

# How many sentences of each kind a speaker reads: shared by all, phonetically diverse, phonetically compact.
KINDS = {"SA": 2, "SI": 3, "SX": 5}

# Names printed of a longer list.
NAMED = 20


def missing_from(doc: Path | None, spoken: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """One line for each thing the disc has and the copy lacks.

    Absent speakers and sentences go by name where the copy has the disc's own tables, DOC/SPKRINFO.TXT and
    DOC/SPKRSENT.TXT; without them only the test speakers of Kaldi's sets and the SA sentences can be named.

    Args:
        doc: the disc's folder DOC, None where the copy has none.
        spoken: sentence names by (part, speaker).
    """
    lines = []
    known = read_speakers(doc) or dict.fromkeys(DEVELOPMENT_SPEAKERS | CORE_TEST_SPEAKERS, "TEST")
    for part, count in SPEAKERS.items():
        present = {speaker for of, speaker in spoken if of == part}
        if len(present) == count:
            continue
        absent = sorted(speaker for speaker, of in known.items() if of == part and speaker not in present)
        named = f", missing: {some(absent)}" if absent else ""
        lines.append(f"{part} has {len(present)} of {count} speakers{named}")
    prescribed = read_sentences(doc)
    for (part, speaker), names in sorted(spoken.items()):
        absent = missing_sentences(names, prescribed.get(speaker, []))
        if absent:
            lines.append(
                f"{part} {speaker} has {len(names)} of {sum(KINDS.values())} sentences, missing: {some(absent)}"
            )
    return lines


def missing_sentences(names: Sequence[str], prescribed: Sequence[str]) -> list[str]:
    """Sentences of the disc's table that are not there; without the table, how many of which kind."""
    if prescribed:
        return sorted(set(prescribed) - set(names))
    absent = [name for name in ("SA1", "SA2") if name not in names]
    for kind in ("SI", "SX"):
        short = KINDS[kind] - sum(name.startswith(kind) for name in names)
        if short > 0:
            absent.append(f"{short} {kind}")
    return absent


def some(names: Sequence[str]) -> str:
    """The names, or the first of a long list of them."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def read_speakers(doc: Path | None) -> dict[str, str]:
    """Part of each speaker by DOC/SPKRINFO.TXT (columns: id, sex, dialect region, use); empty without it."""
    rows = read_rows(doc, "SPKRINFO.TXT")
    parts = {"TRN": "TRAIN", "TST": "TEST"}
    return {f"{row[1]}{row[0]}".upper(): parts[row[3]] for row in rows if len(row) > 3 and row[3] in parts}


def read_sentences(doc: Path | None) -> dict[str, list[str]]:
    """Sentences of each speaker by DOC/SPKRSENT.TXT (columns: id, 2 SA, 5 SX, 3 SI numbers); empty without it.

    The table has no sex in front of its ids, so a speaker stands there under both letters.
    """
    kinds = ["SA"] * 2 + ["SX"] * 5 + ["SI"] * 3
    rows = [row for row in read_rows(doc, "SPKRSENT.TXT") if len(row) == 11 and all(map(str.isdigit, row[1:]))]
    sentences = {row[0].upper(): [k + n for k, n in zip(kinds, row[1:], strict=True)] for row in rows}
    return {sex + id: names for id, names in sentences.items() for sex in "FM"}


def read_rows(doc: Path | None, name: str) -> list[list[str]]:
    """Fields of each line of a table in DOC, comments (;) left out; empty where there is no such file."""
    if doc is None or not doc.is_dir():
        return []
    path = next((path for path in sorted(doc.iterdir()) if path.name.upper() == name), None)
    if path is None:
        return []
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith(";")]
