"""Small recordings that resemble speech, and corpora and shards of them, for tests."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from zfaudio.corpus.audio import RejectedRecording, read_audio
from zfaudio.corpus.kaldi import Utterance, load_utterances
from zfaudio.data.frames import Moments, from_frames, moments, to_frames
from zfaudio.data.manifest import FORMAT_VERSION, Manifest, Shard, SplitManifest, sha256
from zfaudio.data.shard_format import FramedUtterance, write_shard


def speech(samples: int, seed: int = 0, rate: int = 16000) -> np.ndarray:
    """Make voiced and unvoiced syllables with digital silence between them, int16 [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    pitch = rng.uniform(80, 240) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)), 0, None)
    return np.round(3000 * syllables * (voice + 0.1 * rng.standard_normal(samples))).astype(np.int16)


def write_corpus(
    folder: Path, speakers: int = 4, recordings: int = 3, seconds: float = 0.6, rate: int = 16000, suffix: str = "wav"
) -> list[Path]:
    """Write FOLDER/spkN/spkN-M.wav, each with a different length, and return the paths in order."""
    paths = []
    for speaker in range(speakers):
        for recording in range(recordings):
            path = folder / f"spk{speaker}" / f"spk{speaker}-{recording}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            number = speaker * recordings + recording
            soundfile.write(path, speech(int(seconds * rate) + 37 * number, seed=number, rate=rate), rate)
            paths.append(path)
    return paths


def write_data_dir(folder: Path, recordings: list[Path]) -> Path:
    """Write a Kaldi data directory of whole recordings. The name of a recording's folder is its speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {path.stem: path for path in sorted(recordings, key=lambda path: path.stem)}
    speakers = {name: path.parent.name for name, path in by_id.items()}
    tables = {
        "wav.scp": {name: str(path) for name, path in by_id.items()},
        "utt2spk": speakers,
        "spk2utt": {
            speaker: " ".join(name for name in by_id if speakers[name] == speaker)
            for speaker in sorted(set(speakers.values()))
        },
    }
    for table, rows in tables.items():
        (folder / table).write_text("".join(f"{key} {value}\n" for key, value in rows.items()))
    return folder


def load_utterance(utterance: Utterance, sample_rate: int = 16000, allow_pipes: bool = False) -> np.ndarray:
    """Load the waveform of one utterance, or raise the RejectedRecording that says why it cannot be used."""
    ((_, waveform),) = load_utterances([utterance], sample_rate, allow_pipes)
    if isinstance(waveform, RejectedRecording):
        raise waveform
    return waveform


def framed(name: str, frames: int, frame_size: int, seed: int = 0) -> FramedUtterance:
    """Make an utterance of some whole frames and three more samples."""
    waveform = speech(frames * frame_size, seed=seed)
    return FramedUtterance(name, name.split("-")[0], 0.0, len(waveform) + 3, to_frames(waveform, frame_size))


def make_shards(
    path: Path,
    utterances: int | dict[str, int] = 8,
    frames: int | list[int] = 30,
    frame_size: int = 20,
    seed: int = 0,
    utterances_per_shard: int = 3,
) -> str:
    """Write a folder of shards and its manifest.

    Args:
        path: the folder, which is created if it is missing.
        utterances: number of training utterances, besides which there are 3 each for valid and test; or the number for
            each split.
        frames: number of frames of each utterance. A list is repeated.
        frame_size: number of samples per frame.
        seed: seed of the speech.
        utterances_per_shard: number of utterances in each shard but the last.

    Returns:
        The path of the folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    counts = utterances if isinstance(utterances, dict) else {"train": utterances, "valid": 3, "test": 3}
    lengths = frames if isinstance(frames, list) else [frames]
    splits, corpus = {}, Moments()
    for split, count in counts.items():
        made = [
            framed(f"{split}{i % 3}-{i:03d}", lengths[i % len(lengths)], frame_size, seed=1000 * seed + i)
            for i in range(count)
        ]
        shards = []
        for number, first in enumerate(range(0, count, utterances_per_shard)):
            part = made[first : first + utterances_per_shard]
            tar = path / f"{split}-{number:06d}.tar"
            with tar.open("wb") as stream:
                write_shard(stream, part)
            with tar.open("rb") as stream:
                shards.append(
                    Shard(tar.name, sha256(stream), len(part), sum(len(utterance.frames) for utterance in part))
                )
        splits[split] = SplitManifest(
            shards=shards,
            utterances=count,
            frames=sum(len(utterance.frames) for utterance in made),
            dropped_samples=3 * count,
            speakers=len({utterance.speaker for utterance in made}),
        )
        if split == "train":
            for utterance in made:
                corpus = corpus.merge(moments(from_frames(utterance.frames)))
    manifest = Manifest(FORMAT_VERSION, frame_size, 16000, corpus.mean, corpus.deviation, splits)
    (path / "manifest.json").write_text(manifest.to_json())
    return str(path)


def record(path: Path, samples: np.ndarray | None = None, **options: str) -> np.ndarray:
    """Write a recording of one second, or of these samples, at 16 kHz, and return its samples."""
    samples = speech(16000) if samples is None else samples
    soundfile.write(path, samples, 16000, **options)
    return samples


def assert_rejected(path: Path, *said: str) -> None:
    """Check that a recording is rejected for a reason that holds these words."""
    with pytest.raises(RejectedRecording) as caught:
        read_audio(path)
    for words in said:
        assert words in caught.value.reason
