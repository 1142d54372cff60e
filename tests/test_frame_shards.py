"""Shards of frames that come from no recording: pixels and words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zfaudio.config import DataConfig
from zfaudio.data.frame_shards import write_frame_shards
from zfaudio.data.loader import TrainingStream, whole_utterances
from zfaudio.data.manifest import Manifest, check_shards, read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.observations import SPECIAL_WORDS, Binary, Quantizer, Tokens

WORDS = [*SPECIAL_WORDS, "a", "good", "film"]


def framed(id: str, values: Sequence[int], frame_size: int = 1, speaker: str = "s") -> FramedUtterance:
    frames = np.array(values, np.int16).reshape(-1, frame_size)
    return FramedUtterance(id, speaker, 0.0, frames.size, frames)


def pictures(out: Path, train: Iterable[FramedUtterance] | None = None, **changes: Any) -> Manifest:
    rng = np.random.default_rng(0)
    drawn = [framed(f"train-{i}", rng.integers(0, 2, 6).tolist(), 3, speaker=str(i % 2)) for i in range(5)]
    settings: dict[str, Any] = {"kind": "binary", "frame_size": 3, "image_size": (2, 3), "utterances_per_shard": 2}
    splits = {"train": drawn if train is None else train, "test": [framed("test-0", [1] * 6, 3)]}
    return write_frame_shards(out, splits, **(settings | changes))


def sentences(out: Path, *ids: int, vocabulary: Sequence[str] = WORDS) -> Manifest:
    train = [framed("train-0", ids or (3, 4, 5, 1)), framed("train-1", [2, 1])]
    return write_frame_shards(out, {"train": train}, kind="tokens", frame_size=1, vocabulary=vocabulary)


def test_frames_come_back_as_they_were_written(tmp_path):
    manifest = pictures(tmp_path)
    assert read_manifest(tmp_path) == manifest
    check_shards(tmp_path, manifest)
    train = manifest.split("train")
    assert [shard.utterances for shard in train.shards] == [2, 2, 1]
    assert (train.utterances, train.frames, train.speakers, train.dropped_samples) == (5, 10, 2, 0)
    found = list(read_utterances(tmp_path, "train"))
    rng = np.random.default_rng(0)
    for i, utterance in enumerate(found):
        assert utterance.id == f"train-{i}"
        np.testing.assert_array_equal(utterance.frames, rng.integers(0, 2, 6).reshape(2, 3))
    assert not list(tmp_path.glob(".*"))


def test_the_manifest_says_what_a_frame_holds(tmp_path):
    binary, tokens = pictures(tmp_path / "a"), sentences(tmp_path / "b")
    assert (binary.observation, tokens.observation) == (Binary(), Tokens(6))
    assert binary.image_size == [2, 3]
    assert tokens.vocabulary == WORDS
    fields = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {"sample_rate", "mean", "deviation", "vocabulary"} & {*fields} == set()


def test_the_manifest_of_recordings_does_not_mention_other_kinds():
    manifest = Manifest(1, 200, 16000, 3.0, 700.0)
    assert manifest.observation == Quantizer(3.0, 700.0)
    assert not {"kind", "vocabulary", "image_size"} & {*json.loads(manifest.to_json())}


def test_what_is_for_recordings_refuses_other_frames(tmp_path):
    with pytest.raises(UserError, match="these shards hold binary frames; this needs shards of recordings"):
        _ = pictures(tmp_path / "a").waveform
    with pytest.raises(UserError, match="these shards hold tokens"):
        _ = sentences(tmp_path / "b").waveform


def test_the_same_shards_are_left_as_they_are_and_others_are_not_overwritten(tmp_path):
    manifest = sentences(tmp_path)
    before = (tmp_path / "manifest.json").stat().st_mtime_ns
    assert sentences(tmp_path) == manifest
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds other shards; delete it"):
        sentences(tmp_path, 3, 1)
    check_shards(tmp_path, manifest)


def test_shards_that_were_lost_are_written_again(tmp_path):
    manifest = sentences(tmp_path)
    (tmp_path / "train-000000.tar").unlink()
    sentences(tmp_path)
    check_shards(tmp_path, manifest)


def test_nothing_is_left_behind_when_writing_breaks_off(tmp_path):
    def broken() -> Iterable[FramedUtterance]:
        yield framed("train-0", [1] * 6, 3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        pictures(tmp_path, broken())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("utterance", "said"),
    [
        (framed("x", [0, 1, 2, 0, 0, 0], 3), "train: x: a value is 2; binary frames hold 0 and 1"),
        (framed("x", [0, 1, -1, 0, 0, 0], 3), "a value is -1"),
        (framed("x", [0] * 9, 3), "9 pixels, but pictures of 2 x 3"),
        (framed("x", [0] * 6, 2), r"frames are int16 \[3, 2\], not int16 \[frames, 3\]"),
        (framed("a b", [0] * 6, 3), "without blanks"),
        (framed("a/b", [0] * 6, 3), "without blanks or slashes"),
        (replace(framed("x", [0] * 6, 3), samples=7), "samples is 7"),
    ],
)
def test_wrong_utterances_are_named(tmp_path, utterance, said):
    with pytest.raises(UserError, match=said):
        pictures(tmp_path, [utterance])
    assert not (tmp_path / "manifest.json").exists()


def test_an_id_is_used_once(tmp_path):
    with pytest.raises(UserError, match="test: test-0: there are two utterances of this id"):
        pictures(tmp_path, [framed("test-0", [0] * 6, 3)])


def test_shards_need_something_to_train_on(tmp_path):
    with pytest.raises(UserError, match="nothing to train on"):
        pictures(tmp_path, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "c"], "vocabulary does not begin with <s> </s> <unk>"),
        ([*WORDS, "two words"], "vocabulary has 'two words', which is no word"),
        ([*WORDS, "\x1b[31m"], "which is no word"),
        ([*WORDS, "a"], "vocabulary has a word twice"),
        ([*SPECIAL_WORDS, *map(str, range(1 << 15))], "vocabulary has 32771 words; it may have up to 32768"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(tmp_path, words, said):
    with pytest.raises(UserError, match=said) as caught:
        sentences(tmp_path, vocabulary=words)
    assert str(caught.value).isprintable()


def test_ids_are_within_the_vocabulary(tmp_path):
    with pytest.raises(UserError, match="train-0: an id is 6; the vocabulary has ids 0 to 5"):
        sentences(tmp_path, 3, 6, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_rate": 16000}, "field sample_rate is 16000; tokens have none"),
        ({"mean": 0.0}, "field mean is 0.0; tokens have none"),
        ({"frame_size": 2}, "field frame_size is 2; a frame of tokens holds 1"),
        ({"image_size": [2, 2]}, r"field image_size is \[2, 2\]; tokens have none"),
        ({"kind": "binary"}, "field vocabulary has 6 words; binary frames have none"),
        ({"kind": "waveform"}, "field sample_rate is missing"),
        ({"kind": "pictures"}, "field kind is 'pictures'"),
        ({"kind": []}, r"field kind is \[\]"),
        ({"vocabulary": []}, "field vocabulary does not begin with"),
    ],
)
def test_a_manifest_with_fields_of_another_kind_is_refused(tmp_path, changes, said):
    sentences(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=said):
        read_manifest(tmp_path)


@pytest.mark.parametrize("size", [[2], [2, 0], [2, 3, 4]])
def test_the_size_of_a_picture_is_rows_and_columns(size):
    with pytest.raises(ValueError, match="not rows and columns"):
        Manifest(1, 3, kind="binary", image_size=size)


def test_values_of_another_kind_in_a_shard_are_refused(tmp_path):
    """The manifest says 0 and 1, and the shard has words."""
    manifest = sentences(tmp_path)
    wrong = Manifest(1, 1, splits=manifest.splits, kind="binary")
    (tmp_path / "manifest.json").write_text(wrong.to_json())
    with pytest.raises(UserError, match=r"train-000000\.tar: train-0: a value is 5; binary frames hold 0 and 1"):
        list(whole_utterances(tmp_path, wrong, "train", DataConfig(), 100, seed=0))
    with pytest.raises(UserError, match=r"a value is 5; binary frames hold 0 and 1"):
        next(TrainingStream(tmp_path, wrong, DataConfig(), 2, 4, seed=0))


@pytest.mark.parametrize("dequantize", [True, False])
def test_batches_hold_the_values_as_they_are(tmp_path, dequantize):
    manifest = sentences(tmp_path)
    config = DataConfig(dequantize=dequantize, score_first_frame=True)
    (batch,) = whole_utterances(tmp_path, manifest, "train", config, 100, seed=0)
    assert batch.frames.squeeze(-1).tolist() == [[0, 3, 4, 5, 1], [0, 2, 1, 0, 0]]
    assert batch.lengths.tolist() == [5, 3]
    segments = next(TrainingStream(tmp_path, manifest, config, 1, 4, seed=0)).frames
    assert segments.squeeze(-1).tolist() in ([[0, 3, 4, 5, 1]], [[0, 2, 1, 0, 0]])
