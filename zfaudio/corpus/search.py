"""Find the recordings of a folder: which files are audio, and what is left aside."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zfaudio.errors import UserError


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


# Files with a header that libsndfile reads.
AUDIO_SUFFIXES = _suffixes(
    "16sv 8svx adc aif aifc aiff amb au avr bwf caf flac iff ircam mp1 mp2 mp3 mpa mpga nist oga ogg opus paf pvf rf64 "
    "sf sfa snd sph svx voc w64 wav wave wv1 wv2 wve"
)

# Recordings that libsndfile cannot read.
FOREIGN_SUFFIXES = _suffixes(
    "3g2 3ga 3gp aa aac ac3 amr ape asf awb dff dsf dss dts eac3 ec3 f4a m2a m4a m4b m4p m4r mka mkv mov mp4 mpc oma "
    "qcp ra ram rm shn spx tak tta vqf webm wma wv"
)

# Samples without a header. Nothing says their rate, encoding and number of channels.
HEADERLESS_SUFFIXES = _suffixes("al g721 g723 g726 gsm l16 pcm raw ul vox")

# Folders of operating systems and file servers, which hold copies and deleted files.
SYSTEM_FOLDERS = frozenset(
    ("#recycle", "$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found")
)

# How recordings begin: those that libsndfile reads, and Matroska and WebM, ASF, AMR, WavPack, Monkey's and True Audio.
AUDIO_STARTS = (b"fLaC", b"NIST_1A", b".snd", b"caff", b"riff\x2e\x91\xcf\x11", b"Creative Voice File", b"ID3")
FOREIGN_STARTS = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"#!AMR", b"wvpk", b"MAC ", b"TTA1")

# So many files of each unknown suffix are looked into.
LOOKED_INTO = 3


@dataclass
class FoundFiles:
    """The files of a folder and its subfolders, by their sorted paths below it.

    Attributes:
        audio: recordings that libsndfile reads.
        foreign: recordings in formats that it does not read.
        misnamed: recordings under the suffix of something else.
        others: number of other files by suffix.
        hidden: folders that are not searched because they are hidden, or belong to the system.
        unreadable: folders that cannot be searched, with the reason.
    """

    audio: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def describe_rest(self) -> list[str]:
        """Say in a line each what was left aside that is no recording."""
        lines = []
        if self.others:
            counts = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.others.most_common(8))
            more = ", ..." if len(self.others) > 8 else ""
            lines.append(f"no audio: {self.others.total()} files ({counts}{more})")
        if self.hidden:
            more = ", ..." if len(self.hidden) > 4 else ""
            lines.append(f"not searched: {len(self.hidden)} hidden folders ({', '.join(self.hidden[:4])}{more})")
        return lines


def find_files(folder: Path) -> FoundFiles:
    """Find the files of a folder and its subfolders. Hidden files are ignored, hidden folders are not searched.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = FoundFiles()
    unknown: dict[str, list[str]] = {}
    for name in sorted(walk(folder, found)):
        suffix = suffix_of(name)
        if suffix in AUDIO_SUFFIXES:
            found.audio.append(name)
        elif suffix in FOREIGN_SUFFIXES or suffix in HEADERLESS_SUFFIXES:
            found.foreign.append(name)
        else:
            unknown.setdefault(suffix, []).append(name)
    for suffix, names in unknown.items():
        if any(is_recording(folder / name) for name in names[:LOOKED_INTO]):
            recordings = {name for name in names if is_recording(folder / name)}
            found.misnamed += recordings
            names = [name for name in names if name not in recordings]
        if names:
            found.others[suffix] = len(names)
    found.misnamed.sort()
    found.hidden.sort()
    return found


def walk(folder: Path, found: FoundFiles) -> Iterator[str]:
    """Yield the paths of all files below a folder, and note which folders are not searched.

    Links to folders are followed after all other folders, and no folder is searched twice.
    """
    searched = {identity(str(folder))}
    links: list[str] = []

    def note_error(error: OSError) -> None:
        found.unreadable[below(str(error.filename or folder))] = f"cannot be searched: {error.strerror}"

    def below(path: str) -> str:
        return "" if path == str(folder) else os.path.relpath(path, folder)

    tops = [str(folder)]
    while tops or links:
        if not tops:
            links.sort()
            top = links.pop(0)
            known = identity(top)
            if known is None or known in searched:
                continue
            searched.add(known)
            tops.append(top)
        for parent, folders, files in os.walk(tops.pop(), onerror=note_error):
            prefix = below(parent) + "/" if below(parent) else ""
            yield from (prefix + name for name in files if not name.startswith("."))
            entered = []
            for name in sorted(folders):
                path = os.path.join(parent, name)
                if name.startswith(".") or name in SYSTEM_FOLDERS:
                    found.hidden.append(prefix + name)
                elif os.path.islink(path):
                    links.append(path)
                elif identity(path) not in searched:
                    searched.add(identity(path))
                    entered.append(name)
            folders[:] = entered


def identity(folder: str) -> tuple[int, int] | None:
    """Return what tells a folder from all others, whatever its path. None if there is no such folder."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name, in lower case."""
    return os.path.splitext(name)[1].lower()


def is_recording(path: Path) -> bool:
    """Return whether a file begins like a recording."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return looks_like_audio(head) or looks_foreign(head)


def looks_like_audio(head: bytes) -> bool:
    """Return whether a file begins like a recording that libsndfile reads."""
    if head.startswith(b"OggS"):
        return any(codec in head for codec in (b"\x01vorbis", b"OpusHead", b"\x7fFLAC"))
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV")
    return head.startswith(AUDIO_STARTS)


def looks_foreign(head: bytes) -> bool:
    """Return whether a file begins like a recording that libsndfile does not read."""
    return head.startswith(FOREIGN_STARTS) or head[4:8] == b"ftyp" or (head[:4] == b"OggS" and b"Speex   " in head)
