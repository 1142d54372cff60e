"""What is spoken in utterances, and when, from the manifests of lhotse that their shards were made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speech import record, speech

from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import TimedLabel
from zfaudio.evaluation.lhotse_labels import read_aligned
from zfaudio.evaluation.phone_probe import read_phones
from zfaudio.evaluation.word_labels import read_labeled_speech, read_words

lhotse = pytest.importorskip("lhotse", reason="lhotse is an extra: pip install 'zfaudio[lhotse]'")

RATE = 16000
# Two supervisions of a recording of two seconds. As in lhotse, all times count from the start of the recording.
SPOKEN = {
    "u1": (0.25, 0.75, {"word": [("so", 0.25, 0.25), ("", 0.5, 0.1), ("it", 0.6, 0.4)], "phone": [("s", 0.25, 0.1)]}),
    "u2": (1.0, 1.0, {"word": [("is", 1.125, 0.5)]}),
}
WORDS = {
    "u1": [TimedLabel(0.0, 0.25, "so"), TimedLabel(pytest.approx(0.35), 0.75, "it")],
    "u2": [TimedLabel(0.125, 0.625, "is")],
}


@pytest.fixture
def recorded(tmp_path: Path) -> Any:
    """lhotse's recording, of which the manifests below are."""
    record(tmp_path / "r.wav", speech(2 * RATE))
    return lhotse.Recording.from_file(tmp_path / "r.wav")


def supervisions(text: str | None = None, aligned: bool = True) -> list[Any]:
    """lhotse's supervisions of the recording."""
    segments = []
    for id, (start, duration, kinds) in SPOKEN.items():
        one = lhotse.SupervisionSegment(id, "r", start, duration, text=text, speaker=f"speaker-{id}")
        for kind, items in kinds.items() if aligned else ():
            one = one.with_alignment(kind, [lhotse.supervision.AlignmentItem(*item) for item in items])
        segments.append(one)
    return segments


def write_manifests(folder: Path, recording: Any, segments: list[Any], part: str = "") -> Path:
    """Have lhotse write the recording and supervisions of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lhotse.RecordingSet.from_recordings([recording]).to_file(folder / f"recordings{part}.jsonl.gz")
    lhotse.SupervisionSet.from_segments(segments).to_file(folder / f"supervisions{part}.jsonl.gz")
    return folder


def write_supervision(folder: Path, **fields: Any) -> Path:
    """Write a supervision as JSON, with fields that lhotse would not write today."""
    folder.mkdir(parents=True, exist_ok=True)
    line = {"id": "u1", "recording_id": "r", "start": 0.25, "duration": 0.5, **fields}
    (folder / "supervisions.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def test_words_of_aligned_manifests_are_heard_in_shards_of_them(recorded: Any, tmp_path: Path) -> None:
    for part in ("train", "dev"):
        write_manifests(tmp_path / "made" / part, recorded, supervisions("so it is"))
    shard(tmp_path / "made", tmp_path / "shards")
    words = read_words(tmp_path / "made", "valid")
    assert words == WORDS
    location = str(tmp_path / "shards")
    heard = read_labeled_speech(location, read_manifest(location), "valid", words, 99, seed=0)
    first = next(one for one in heard if len(one.waveform) == 12000)
    assert [one.label for one in first.words] == ["so", "it"]
    assert np.array_equal(first.waveform, speech(2 * RATE)[4000:16000])


def test_words_of_a_cut_are_timed_from_its_start(recorded: Any, tmp_path: Path) -> None:
    whole = recorded.to_cut()
    whole.supervisions = supervisions()
    cut = whole.truncate(offset=0.3, duration=1.2).with_id("c1")
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    words = read_aligned(tmp_path, "word")["c1"]
    assert [(one.label, round(one.start, 3), round(one.end, 3)) for one in words] == [
        ("so", 0.0, 0.2),  # it begins before the cut
        ("it", 0.3, 0.7),
        ("is", 0.825, 1.325),
    ]


def test_words_before_the_utterance_are_left_out(tmp_path: Path) -> None:
    items = [["early", 0.0, 0.25, None], ["so", 0.2, 0.25, 0.9]]
    write_supervision(tmp_path, alignment={"word": items})
    assert read_aligned(tmp_path, "word") == {"u1": [TimedLabel(0.0, pytest.approx(0.2), "so")]}


def test_manifests_that_are_no_folders_of_splits_are_read_for_each_split(recorded: Any, tmp_path: Path) -> None:
    one, two = supervisions()
    write_manifests(tmp_path, recorded, [one], part="_a")
    write_manifests(tmp_path, recorded, [two], part="_b")
    assert read_words(tmp_path, "train") == read_words(tmp_path, "test") == WORDS
    assert list(read_words(tmp_path / "recordings_a.jsonl.gz", "test")) == ["u1"]


def test_without_an_alignment_the_text_may_be_one_word(recorded: Any, tmp_path: Path) -> None:
    write_manifests(tmp_path / "test", recorded, supervisions("so", aligned=False))
    assert read_words(tmp_path, "test") == {id: [TimedLabel(0.0, float("inf"), "so")] for id in SPOKEN}
    write_manifests(tmp_path / "test", recorded, supervisions("so it is", aligned=False))
    with pytest.raises(UserError, match=r"u1 has several words; .* or an alignment in lhotse's manifests"):
        read_words(tmp_path, "test")


def test_phones_are_those_of_the_alignment_of_that_kind(recorded: Any, tmp_path: Path) -> None:
    write_manifests(tmp_path / "test", recorded, supervisions())
    assert read_phones(tmp_path / "test") == {"u1": [TimedLabel(0.0, pytest.approx(0.1), "s")]}
    write_manifests(tmp_path / "test", recorded, supervisions(aligned=False))
    with pytest.raises(UserError, match="its manifests have no alignment of kind phone"):
        read_phones(tmp_path / "test")


def test_alignments_are_read_as_lhotse_wrote_them_before_version_1_8(tmp_path: Path) -> None:
    item = {"symbol": "so", "start": 0.25, "duration": 1}
    write_supervision(tmp_path, alignment={"word": [item]})
    assert read_aligned(tmp_path, "word") == {"u1": [TimedLabel(0.0, 1.0, "so")]}


@pytest.mark.parametrize(
    "item", [["so", 0.25], ["so", "0.25", 1.0], ["so", float("nan"), 1.0], ["so", 0.25, -1.0], [0.25, 1.0, "so"]]
)
def test_an_alignment_of_another_form_is_named_in_one_line(tmp_path: Path, item: list[Any]) -> None:
    write_supervision(tmp_path, alignment={"word": [item]})
    with pytest.raises(UserError, match=r"supervisions.jsonl: u1: in its alignment of kind word, .* is not \[SYMBOL"):
        read_aligned(tmp_path, "word")
    write_supervision(tmp_path, alignment={"word": "so"})
    with pytest.raises(UserError, match=r"supervisions.jsonl:1: not a supervision of lhotse \(field alignment.word"):
        read_aligned(tmp_path, "word")
