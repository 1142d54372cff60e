import random
from pathlib import Path

import numpy as np
import pytest

from data_prep.demo import demo, make_speaker
from data_prep.demo_sentences import COMMON, compose
from data_prep.timit import timit
from zfaudio.corpus.audio import read_audio
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.errors import UserError

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    demo(str(out), minutes=1.0, nj=2)
    return out


def test_demo_corpus_is_read_as_timit(corpus: Path, tmp_path: Path) -> None:
    timit(str(corpus), str(tmp_path / "data"))
    train, test = read_data_dir(tmp_path / "data" / "train"), read_data_dir(tmp_path / "data" / "test")
    assert {utterance.speaker for utterance in train} == {"FAAA0", "MAAB0", "FAAC0"}
    assert {utterance.speaker for utterance in test} == {"MAAD0"}
    assert all(utterance.text for utterance in train)
    assert (tmp_path / "data" / "rejects.txt").read_text() == ""


def test_demo_corpus_is_speech_at_16_khz_and_a_sound_level(corpus: Path) -> None:
    files = sorted((corpus / "TIMIT").rglob("*.WAV"))
    seconds = 0.0
    for path in files:
        samples, rate = read_audio(path)
        assert rate == 16000
        assert path.read_bytes().startswith(b"NIST_1A")
        assert 0.2 * 32768 < np.abs(samples).max() <= 0.5 * 32768
        assert samples.std() > 500
        seconds += len(samples) / rate
    assert seconds >= 60


def test_same_seed_gives_the_same_files_however_many_processes(corpus: Path, tmp_path: Path) -> None:
    demo(str(tmp_path), minutes=0.1, nj=1)
    files = sorted((tmp_path / "TIMIT").rglob("*.*"))
    assert len(files) == 80
    for path in files:
        assert path.read_bytes() == (corpus / path.relative_to(tmp_path)).read_bytes()


def test_existing_corpus_is_not_overwritten(corpus: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        demo(str(corpus))


def test_speakers_have_ten_sentences_of_timits_kinds() -> None:
    for number in (0, 3, 40):
        kinds = sorted(name[:2] for name in make_speaker(number, seed=0).sentences)
        assert kinds == ["SA"] * 2 + ["SI"] * 3 + ["SX"] * 5


def test_enough_distinct_sentences() -> None:
    assert len(set(COMMON)) == len(COMMON) >= 60
    chance = random.Random(0)
    assert len({compose(chance) for _ in range(1000)}) > 950
