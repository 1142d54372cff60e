"""Write a recording of the test part as a WAV file, to be continued and reconstructed."""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.corpus.audio import write_wav
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError


def cut_recording(shards: str, out: Path, *, seconds: float = 3.0) -> None:
    """Write the first test utterance that lasts so long, or else the longest, cut to that length.

    Args:
        shards: folder or address of the shards.
        out: the WAV file.
        seconds: its length at most.
    """
    manifest = read_manifest(shards)
    wanted = int(seconds * manifest.sample_rate)
    longest = None
    for utterance in read_utterances(shards, "test"):
        if longest is None or len(utterance.frames) > len(longest.frames):
            longest = utterance
        if longest.frames.size >= wanted:
            break
    if longest is None or not longest.frames.size:
        raise UserError(f"{shards}: the test part holds no frame")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_wav(out, from_frames(longest.frames)[:wanted], manifest.sample_rate)
    print(f"{out}: from {longest.id}")


if __name__ == "__main__":
    run_command(cut_recording, sys.argv[1:], prog="cut_recording.py")
