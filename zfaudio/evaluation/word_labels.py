"""The words of utterances, with their times, and the audio of them from shards."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zfaudio.corpus.kaldi_tables import read_table
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_reader import read_shard
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import Alignment, TimedLabel, read_ctm
from zfaudio.seeds import derive_seed

CTM = "ctm"


@dataclass(frozen=True)
class LabeledSpeech:
    """An utterance and its words."""

    waveform: np.ndarray  # int16 [samples]
    words: list[TimedLabel]


def read_words(folder: Path, split: str) -> Alignment:
    """The words of the utterances of a split: of FOLDER/SPLIT/ctm, or else of `text` with one word per utterance.

    A word of `text` lasts from 0 to infinity.

    Raises:
        UserError: there is neither file, or an utterance of `text` has several words.
    """
    directory = folder / split
    if (directory / CTM).is_file():
        return read_ctm(directory / CTM, "word", "data_prep.digits")
    if not (directory / "text").is_file():
        raise UserError(f"--words {folder}: neither {split}/{CTM} nor {split}/text in it; give the data directories")
    words: Alignment = {}
    for utterance, text in read_table(directory / "text"):
        if len(text.split()) > 1:
            raise UserError(
                f"{directory / 'text'}: {utterance} has several words; a file {CTM} must say when each is spoken"
            )
        if text:
            words[utterance] = [TimedLabel(0.0, float("inf"), text)]
    return words


def read_labeled_speech(
    location: str, manifest: Manifest, split: str, words: Alignment, most_words: int, seed: int
) -> list[LabeledSpeech]:
    """The utterances of a split that have words, from shards in random order until there are enough words.

    Args:
        location: folder or address of the shards.
        manifest: manifest of the shards.
        split: train, valid or test.
        words: the words of each utterance.
        most_words: about how many words are wanted.
        seed: seed of the order.

    Raises:
        UserError: no utterance has words.
    """
    rng = np.random.default_rng(derive_seed(seed, "words", split))
    shards = manifest.split(split).shards
    found: list[LabeledSpeech] = []
    count = 0
    for index in rng.permutation(len(shards)):
        for utterance in read_shard(location, shards[index], manifest.frame_size):
            if utterance.id in words and count < most_words:
                waveform = from_frames(utterance.frames)
                spoken = within(words[utterance.id], len(waveform) / manifest.waveform.sample_rate)
                found.append(LabeledSpeech(waveform, spoken))
                count += len(spoken)
    if not count:
        raise UserError(
            f"--words: none of the {len(words)} utterances with words is in the split {split!r} of the shards; give "
            "the data directories that the shards were made from"
        )
    return found


def within(words: list[TimedLabel], seconds: float) -> list[TimedLabel]:
    """The words that begin before an utterance ends, which shards cut to whole frames."""
    return [TimedLabel(one.start, min(one.end, seconds), one.label) for one in words if one.start < seconds]
