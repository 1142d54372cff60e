"""Write a test recording as a WAV file, which the recipes continue and reconstruct."""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.corpus import write_wav
from zfaudio.data import from_frames, read_manifest, read_utterances
from zfaudio.errors import UserError


def cut_recording(shards: str, out: Path, *, seconds: float = 3.0) -> None:
    """Write the first test utterance that is long enough, or else the longest one, cut to a maximum length.

    Args:
        shards: path or address of the folder of shards.
        out: the WAV file to write.
        seconds: maximum length in seconds.
    """
    manifest = read_manifest(shards)
    samples = int(seconds * manifest.sample_rate)
    longest = None
    for utterance in read_utterances(shards, "test"):
        if longest is None or len(utterance.frames) > len(longest.frames):
            longest = utterance
        if longest.frames.size >= samples:
            break
    if longest is None or not longest.frames.size:
        raise UserError(f"{shards}: the test split holds no frames")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_wav(out, from_frames(longest.frames)[:samples], manifest.sample_rate)
    print(f"{out}: from {longest.id}")


if __name__ == "__main__":
    run_command(cut_recording, sys.argv[1:], prog="cut_recording.py")
