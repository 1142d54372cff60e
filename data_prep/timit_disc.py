"""The speakers and sentences of the LDC93S1 disc, and which of them a copy lacks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Speakers of Kaldi's development set. On the disc they are test speakers.
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

# Number of speakers in each part.
SPEAKERS = {"TRAIN": 462, "TEST": 168}

# Number of sentences that a speaker reads of each kind: shared by all speakers (SA), phonetically diverse (SI) and
# phonetically compact (SX).
KINDS = {"SA": 2, "SI": 3, "SX": 5}

# Number of names to print of a longer list.
MAX_NAMES = 20


def find_missing(doc: Path | None, names: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """Describe in one line each what the disc has and the copy lacks.

    If the copy has the disc's own tables, DOC/SPKRINFO.TXT and DOC/SPKRSENT.TXT, all missing speakers and sentences are
    named. Otherwise only the test speakers of Kaldi's sets and the SA sentences can be named.

    Args:
        doc: the disc's folder DOC, None if the copy has none.
        names: names of the sentences that the copy has, by (part, speaker).
    """
    lines = []
    parts = read_speakers(doc) or dict.fromkeys(DEVELOPMENT_SPEAKERS | CORE_TEST_SPEAKERS, "TEST")
    for part, count in SPEAKERS.items():
        present = {speaker for speaker_part, speaker in names if speaker_part == part}
        if len(present) == count:
            continue
        missing = sorted(speaker for speaker in parts if parts[speaker] == part and speaker not in present)
        named = f", missing: {join_names(missing)}" if missing else ""
        lines.append(f"{part} has {len(present)} of {count} speakers{named}")
    sentences = read_sentences(doc)
    for (part, speaker), present_names in sorted(names.items()):
        missing = missing_sentences(present_names, sentences.get(speaker, []))
        if missing:
            lines.append(
                f"{part} {speaker} has {len(present_names)} of {sum(KINDS.values())} sentences, "
                f"missing: {join_names(missing)}"
            )
    return lines


def missing_sentences(present: Sequence[str], expected: Sequence[str]) -> list[str]:
    """List the expected sentences that are not present, or how many of each kind if there is no expectation."""
    if expected:
        return sorted(set(expected) - set(present))
    missing = [name for name in ("SA1", "SA2") if name not in present]
    for kind in ("SI", "SX"):
        number = KINDS[kind] - sum(name.startswith(kind) for name in present)
        if number > 0:
            missing.append(f"{number} {kind}")
    return missing


def join_names(names: Sequence[str]) -> str:
    """Join names with commas. Of a long list, only the first names are shown."""
    hidden = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {hidden} more" if hidden > 0 else "")


def read_speakers(doc: Path | None) -> dict[str, str]:
    """Read the part of each speaker from DOC/SPKRINFO.TXT. Its columns are id, sex, dialect region and use.

    Returns an empty dictionary if there is no such file.
    """
    rows = read_rows(doc, "SPKRINFO.TXT")
    parts = {"TRN": "TRAIN", "TST": "TEST"}
    return {f"{row[1]}{row[0]}".upper(): parts[row[3]] for row in rows if len(row) > 3 and row[3] in parts}


def read_sentences(doc: Path | None) -> dict[str, list[str]]:
    """Read the sentences of each speaker from DOC/SPKRSENT.TXT. Its columns are id, 2 SA, 5 SX and 3 SI numbers.

    The ids in this table lack the letter of the sex, so each speaker is returned with both letters. Returns an empty
    dictionary if there is no such file.
    """
    kinds = ["SA"] * 2 + ["SX"] * 5 + ["SI"] * 3
    rows = [row for row in read_rows(doc, "SPKRSENT.TXT") if len(row) == 11 and all(map(str.isdigit, row[1:]))]
    sentences = {row[0].upper(): [k + n for k, n in zip(kinds, row[1:], strict=True)] for row in rows}
    return {sex + id: names for id, names in sentences.items() for sex in "FM"}


def read_rows(doc: Path | None, name: str) -> list[list[str]]:
    """Read the fields of each line of a table in DOC, without comments (;). Empty if there is no such file."""
    if doc is None or not doc.is_dir():
        return []
    path = next((path for path in sorted(doc.iterdir()) if path.name.upper() == name), None)
    if path is None:
        return []
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith(";")]
