"""The words of utterances, with their times, and the audio of them from shards."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zfaudio.corpus.kaldi_tables import read_table
from zfaudio.corpus.lhotse import is_manifest
from zfaudio.corpus.splits import part_of
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_reader import read_shard
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import Alignment, TimedLabel, read_ctm
from zfaudio.evaluation.lhotse_labels import read_aligned, read_transcripts
from zfaudio.seeds import derive_seed

CTM = "ctm"


@dataclass(frozen=True)
class LabeledSpeech:
    """An utterance and its words."""

    waveform: np.ndarray  # int16 [samples]
    words: list[TimedLabel]


def read_words(folder: Path, split: str) -> Alignment:
    """The words of the utterances of a split: those that are aligned, or else the text if it is one word.

    A word of a text lasts from 0 to infinity.

    Args:
        folder: what the shards were made from: the data directories or manifests of lhotse, in a folder for each split
            or all together.
        split: train, valid or test.

    Raises:
        UserError: nothing says what is spoken, or a text has several words.
    """
    directory = part_of(folder, split)
    if (directory / CTM).is_file():
        return read_ctm(directory / CTM, "word", "data_prep.digits")
    if is_manifest(directory) and (aligned := read_aligned(directory, "word")):
        return aligned
    table = directory / "text"
    if table.is_file():
        texts = dict(read_table(table))
    elif is_manifest(directory):
        table, texts = directory, read_transcripts(directory)
    else:
        raise UserError(
            f"--words {folder}: neither {split}/{CTM} nor {split}/text nor manifests of lhotse in it; give what the "
            "shards were made from"
        )
    for utterance, text in texts.items():
        if len(text.split()) > 1:
            raise UserError(
                f"{table}: {utterance} has several words; a file {CTM} must say when each is spoken, or an alignment "
                "in lhotse's manifests"
            )
    return {utterance: [TimedLabel(0.0, float("inf"), text)] for utterance, text in texts.items() if text}


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
            "what the shards were made from"
        )
    return found


def within(words: list[TimedLabel], seconds: float) -> list[TimedLabel]:
    """The words that begin before an utterance ends, which shards cut to whole frames."""
    return [TimedLabel(one.start, min(one.end, seconds), one.label) for one in words if one.start < seconds]
