"""Preparation of the Free Spoken Digit Dataset, on a few short recordings with its names."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import speech

from data_prep.digits import WORDS, digits
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.errors import UserError

RATE = 8000
SPLITS = {"train": (7, 8, 9, 10), "valid": (5, 6), "test": (0, 4)}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two speakers, three digits, and eight recordings of each, of 0.2 s and more."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, name in enumerate(names()):
        soundfile.write(folder / f"{name}.wav", speech(1600 + 10 * number, seed=number, rate=RATE), RATE)
    return folder


def names(*splits: str) -> list[str]:
    indices = [index for split in splits or SPLITS for index in SPLITS[split]]
    return [f"{digit}_{speaker}_{index}" for digit in range(3) for speaker in ("ann", "bob") for index in indices]


def read_ctm(path: Path) -> dict[str, list[tuple[int, int, str]]]:
    """The first sample, the number of samples and the word of each line, by utterance."""
    lines: dict[str, list[tuple[int, int, str]]] = {}
    for line in path.read_text().splitlines():
        utterance, channel, start, length, word = line.split()
        assert channel == "1"
        lines.setdefault(utterance, []).append((round(float(start) * RATE), round(float(length) * RATE), word))
    return lines


@pytest.mark.parametrize("seconds", [0.0, 0.5, 4.0])
def test_every_recording_of_a_split_is_in_one_string_of_its_speaker_where_the_ctm_says(corpus, tmp_path, seconds):
    digits(corpus, tmp_path / "out", seconds=seconds)
    for split in SPLITS:
        expected = {soundfile.read(corpus / f"{name}.wav", dtype="int16")[0].tobytes(): name for name in names(split)}
        found = []
        ctm = read_ctm(tmp_path / "out" / split / "ctm")
        for utterance in read_data_dir(tmp_path / "out" / split):
            waveform, rate = soundfile.read(utterance.recording, dtype="int16")
            assert rate == RATE
            at = 0
            for start, length, word in ctm[utterance.id]:
                assert start == at
                name = expected[waveform[start : start + length].tobytes()]
                assert WORDS[int(name[0])] == word
                assert utterance.speaker == name.split("_")[1]
                found.append(name)
                at += length
            assert at == len(waveform) == round(utterance.duration * RATE)
            assert utterance.text == " ".join(word for _, _, word in ctm[utterance.id])
        assert sorted(found) == sorted(expected.values())


def test_strings_are_as_long_as_asked_for_but_for_what_is_left_over(corpus, tmp_path):
    digits(corpus, tmp_path / "out", seconds=0.5)
    for speaker in ("ann", "bob"):
        own = [one for one in read_data_dir(tmp_path / "out/train") if one.speaker == speaker]
        assert len(own) > 2
        assert all(0.5 <= one.duration < 0.8 for one in own[:-1])
    digits(corpus, tmp_path / "one", seconds=0)
    assert len(read_data_dir(tmp_path / "one/train")) == 24


def test_the_order_depends_on_the_seed_alone(corpus, tmp_path):
    for out, options in {"a": {}, "b": {"nj": 2}, "c": {"seed": 1}}.items():
        digits(corpus, tmp_path / out, **options)
    texts = [(tmp_path / out / "train/text").read_text() for out in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_the_published_repository_has_them_in_a_folder_of_their_own(corpus, tmp_path):
    (tmp_path / "clone").mkdir()
    corpus.rename(tmp_path / "clone/recordings")
    digits(tmp_path / "clone", tmp_path / "out")
    assert len(read_data_dir(tmp_path / "out/test")) == 2


def test_other_names_and_broken_files_are_left_out_and_listed(corpus, tmp_path):
    soundfile.write(corpus / "ten_ann_7.wav", np.ones(2000, np.int16), RATE)
    (corpus / "1_bob_7.wav").write_bytes(b"no sound")
    digits(corpus, tmp_path / "out")
    rejects = (tmp_path / "out/rejects.txt").read_text().splitlines()
    assert len(rejects) == 2
    assert any("ten_ann_7.wav" in line and "DIGIT_SPEAKER_INDEX" in line for line in rejects)
    assert sum(len(line.split()) - 1 for line in (tmp_path / "out/train/text").read_text().splitlines()) == 23


def test_a_split_without_recordings_leaves_no_tables_of_an_earlier_run(corpus, tmp_path):
    digits(corpus, tmp_path / "out")
    for name in names("valid"):
        (corpus / f"{name}.wav").unlink()
    digits(corpus, tmp_path / "out")
    assert list((tmp_path / "out/valid").iterdir()) == []


def test_mistakes_are_named_in_one_line(corpus, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        digits(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="no recordings DIGIT_SPEAKER_INDEX"):
        digits(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="--seconds -1"):
        digits(corpus, tmp_path / "out", seconds=-1)
    soundfile.write(corpus / "2_bob_4.wav", speech(16000), 16000)
    with pytest.raises(UserError, match=r"2_bob_4\.wav: 16000 Hz"):
        digits(corpus, tmp_path / "out")
