"""Preparation of SC09, on a few short recordings laid out like Speech Commands."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from speech import speech

from data_prep.sc09 import published_codes, sc09
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.errors import UserError
from zfaudio.mulaw import decode, encode, to_levels

RATE = 16000
LISTED = {"valid": "1_nohash_0.wav", "test": "2_nohash_1.wav"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three words, of which one is no digit, by three speakers; those of speaker 3 are short."""
    folder = tmp_path / "corpus"
    for place, word in enumerate(("zero", "seven", "bed")):
        (folder / word).mkdir(parents=True)
        for speaker in (1, 2, 3):
            for index in (0, 1):
                length = 9000 if speaker == 3 else 16000
                path = folder / word / f"{speaker}_nohash_{index}.wav"
                soundfile.write(path, speech(length, seed=10 * place + 2 * speaker + index), RATE)
    for name, listed in (("validation_list.txt", LISTED["valid"]), ("testing_list.txt", LISTED["test"])):
        (folder / name).write_text("".join(f"{word}/{listed}\n" for word in ("zero", "seven", "bed")))
    return folder


def test_the_lists_of_the_corpus_split_the_digits_and_text_has_their_words(corpus, tmp_path):
    sc09(corpus, tmp_path / "out")
    found = {split: read_data_dir(tmp_path / "out" / split) for split in ("train", "valid", "test")}
    assert [one.id for one in found["valid"]] == ["1-seven-000", "1-zero-000"]
    assert [one.id for one in found["test"]] == ["2-seven-001", "2-zero-001"]
    assert len(found["train"]) == 8
    for utterances in found.values():
        for one in utterances:
            speaker, word, _ = one.id.split("-")
            assert (one.speaker, one.text) == (speaker, word)
            assert one.duration == (9000 if speaker == "3" else 16000) / RATE


def test_recordings_hold_the_levels_of_the_published_codes_and_keep_their_length(corpus, tmp_path):
    sc09(corpus, tmp_path / "out", nj=2)
    for id, name in (("1-seven-001", "seven/1_nohash_1.wav"), ("3-zero-000", "zero/3_nohash_0.wav")):
        written, rate = soundfile.read(tmp_path / "out/wav" / f"{id}.wav", dtype="int16")
        original, _ = soundfile.read(corpus / name, dtype="int16")
        assert rate == RATE
        assert np.array_equal(written, to_levels(written))
        assert np.array_equal(encode(written), published_codes(original))


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_codes_span_the_range_in_the_order_of_the_samples(values):
    samples = np.array(sorted([*values, min(values) // 2 - 9000, max(values) // 2 + 9000]), np.int16)
    codes = published_codes(samples).astype(int)
    assert (codes[0], codes[-1]) == (0, 255)
    assert (np.diff(codes) >= 0).all()


def test_codes_are_bins_of_equal_width_of_the_companded_recording():
    samples = np.round(32767 * np.linspace(-1, 1, 4001)).astype(np.int16)
    scaled = samples / 32767
    companded = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256)
    position = (companded + 1) / 2 * 256
    inside = np.abs(position - np.round(position)) > 0.05  # the published bins leave out a little at their ends
    assert np.array_equal(published_codes(samples)[inside], np.floor(position[inside]))
    heard = decode(published_codes(samples)) / 32768
    assert (np.abs(heard - scaled) < 0.05 * np.abs(scaled) + 1e-3).all()


def test_a_recording_is_stretched_and_shifted_by_itself():
    samples = speech(4000)
    for other in (2 * samples, samples + np.int16(100)):
        assert (published_codes(samples) == published_codes(other)).mean() > 0.99  # but for those at the end of a bin


def test_a_recording_of_more_than_a_second_is_cut(corpus, tmp_path):
    long = speech(35000, seed=5)
    soundfile.write(corpus / "zero/4_nohash_0.wav", long, RATE)
    sc09(corpus, tmp_path / "out")
    pieces = [one for one in read_data_dir(tmp_path / "out/train") if one.speaker == "4"]
    assert [(one.id, one.duration) for one in pieces] == [
        ("4-zero-000", 1.0),
        ("4-zero-000-1", 1.0),
        ("4-zero-000-2", 3000 / RATE),
    ]
    last, _ = soundfile.read(pieces[2].recording, dtype="int16")
    assert np.array_equal(encode(last), published_codes(long[32000:]))


def test_what_cannot_be_used_is_listed(corpus, tmp_path):
    (corpus / "zero/5_nohash_0.wav").write_bytes(b"no sound")
    (corpus / "seven/other.wav").write_bytes(b"")
    (corpus / "seven" / LISTED["test"]).unlink()
    sc09(corpus, tmp_path / "out")
    rejects = (tmp_path / "out/rejects.txt").read_text()
    assert rejects.count("\n") == 3
    assert "5_nohash_0.wav" in rejects
    assert "its name is not SPEAKER_nohash_INDEX.wav" in rejects
    assert "listed in testing_list.txt, but not there" in rejects
    with pytest.raises(UserError, match="--strict"):
        sc09(corpus, tmp_path / "strict", strict=True)


def test_mistakes_are_named_in_one_line(corpus, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        sc09(tmp_path / "nowhere", tmp_path / "out")
    soundfile.write(corpus / "zero/6_nohash_0.wav", speech(8000, rate=8000), 8000)
    with pytest.raises(UserError, match=r"6_nohash_0\.wav: 8000 Hz; Speech Commands is at 16000 Hz"):
        sc09(corpus, tmp_path / "out")
    (corpus / "testing_list.txt").unlink()
    with pytest.raises(UserError, match=r"testing_list\.txt: cannot be read .*; give the folder of Speech Commands"):
        sc09(corpus, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / "empty" / name).write_text("")
    with pytest.raises(UserError, match="empty: no recordings zero/SPEAKER_nohash_INDEX"):
        sc09(tmp_path / "empty", tmp_path / "out")
