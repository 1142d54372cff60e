from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from speech import load_utterance

from zfaudio.corpus.audio import RejectedRecording, write_wav
from zfaudio.corpus.kaldi import (
    Reject,
    Utterance,
    load_utterances,
    read_data_dir,
    validate_data_dir,
    write_data_dir,
    write_rejects,
)
from zfaudio.errors import UserError

RATE = 16000


def recording(path: Path, seconds: float = 1.0, channels: int = 1, rate: int = RATE) -> Path:
    samples = np.random.default_rng(0).integers(-9000, 9000, (round(seconds * rate), channels)).astype(np.int16)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory of two speakers and three utterances, two of which are parts of one recording."""
    long, short = recording(tmp_path / "long.wav", 2.0), recording(tmp_path / "short.wav")
    write_data_dir(
        tmp_path / "data",
        [
            Utterance("ann-1", "ann", str(long), 0.0, 0.5, "first half", "rec1"),
            Utterance("ann-2", "ann", str(long), 0.5, 2.0, "second", "rec1"),
            Utterance("bob-1", "bob", str(short), text="whole", duration=1.0),
        ],
    )
    return tmp_path / "data"


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_written_directory_is_kaldis(data_dir: Path) -> None:
    assert (data_dir / "spk2utt").read_text() == "ann ann-1 ann-2\nbob bob-1\n"
    assert (data_dir / "utt2spk").read_text() == "ann-1 ann\nann-2 ann\nbob-1 bob\n"
    assert [line.split()[0] for line in (data_dir / "wav.scp").read_text().splitlines()] == ["bob-1", "rec1"]
    assert (data_dir / "segments").read_text().splitlines()[1] == "ann-2 rec1 0.500000 2.000000"
    assert (data_dir / "utt2dur").read_text().splitlines()[1] == "ann-2 1.500000"
    assert (data_dir / "text").read_text().splitlines()[0] == "ann-1 first half"


def test_written_directory_is_read_back(data_dir: Path) -> None:
    first, second, third = read_data_dir(data_dir)
    assert (first.id, first.speaker, first.start, first.end, first.text) == ("ann-1", "ann", 0.0, 0.5, "first half")
    assert second.duration == 1.5
    assert (third.start, third.end) == (0.0, 1.0)


names = st.text("abcXYZ019_.", min_size=1, max_size=6)


@given(
    ids=st.sets(st.tuples(names, names), min_size=1, max_size=12),
    text=st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1)),
)
def test_any_utterances_named_after_their_speakers_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ids: set[tuple[str, str]], text: str | None
) -> None:
    path = tmp_path_factory.mktemp("data")
    text = None if text is None or not text.split() or text == "#0" else " ".join(text.split())
    utterances = [Utterance(f"{s}-{n}", s, f"/a b/{n}.wav", text=text, duration=1.25) for s, n in ids]
    write_data_dir(path, utterances)
    assert validate_data_dir(path) == []
    assert read_data_dir(path) == sorted(utterances, key=lambda utterance: utterance.id)


def test_tables_of_an_earlier_run_do_not_survive(data_dir: Path, tmp_path: Path) -> None:
    write_data_dir(data_dir, [Utterance("eve-1", "eve", str(tmp_path / "short.wav"))])
    assert sorted(path.name for path in data_dir.iterdir()) == ["spk2utt", "utt2spk", "wav.scp"]


@pytest.mark.parametrize("name", ["utt2spk", "wav.scp", "text", "segments", "utt2dur"])
def test_unsorted_table_is_refused(data_dir: Path, name: str) -> None:
    lines = (data_dir / name).read_text().splitlines()
    (data_dir / name).write_text("\n".join(reversed(lines)) + "\n")
    assert any("not sorted" in problem and name in problem for problem in validate_data_dir(data_dir))


def test_sorting_is_c_order(tmp_path: Path) -> None:
    wav = str(recording(tmp_path / "a.wav"))
    write_data_dir(tmp_path / "data", [Utterance(id, id, wav) for id in ("a", "B", "é", "_")])
    assert [line.split()[0] for line in (tmp_path / "data" / "utt2spk").read_text().splitlines()] == [
        "B",
        "_",
        "a",
        "é",
    ]


@pytest.mark.parametrize("name", ["utt2spk", "wav.scp", "text", "segments"])
def test_repeated_id_is_refused(data_dir: Path, name: str) -> None:
    lines = (data_dir / name).read_text().splitlines()
    (data_dir / name).write_text("\n".join([lines[0], *lines]) + "\n")
    assert any("listed twice" in problem for problem in validate_data_dir(data_dir))


@pytest.mark.parametrize("name", ["text", "segments", "utt2dur", "wav.scp"])
def test_missing_id_is_refused(data_dir: Path, name: str) -> None:
    lines = (data_dir / name).read_text().splitlines()
    (data_dir / name).write_text("\n".join(lines[1:]) + "\n")
    assert validate_data_dir(data_dir)


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "spk2utt"])
def test_missing_table_is_named(data_dir: Path, name: str) -> None:
    (data_dir / name).unlink()
    with pytest.raises(UserError, match=f"no file {name}"):
        read_data_dir(data_dir)


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("spk2utt", "ann ann-1 ann-2", "ann ann-1", "spk2utt"),
        ("utt2spk", "ann-1 ann\n", "ann-1 zoe\n", "by speaker"),
        ("utt2spk", "ann-1 ann\n", "ann-1\n", "exactly one speaker"),
        ("segments", "0.500000 2.000000", "0.500000 2.500000", "its recording rec1 ends at 2.000 s"),
        ("segments", "0.500000 2.000000", "0.500000 0.500000", "before it starts"),
        ("segments", "0.500000 2.000000", "-0.5 2.0", "not RECORDING START END"),
        ("segments", "0.500000 2.000000", "0.5 nan", "not RECORDING START END"),
        ("segments", "ann-2 rec1", "ann-2 rec7", "rec7, which is not in wav.scp"),
        ("utt2dur", "1.500000", "-1", "not a duration"),
        ("text", "first half", "first #0", "reserved symbol"),
        ("text", "whole\n", "whole", "without newline"),
        ("text", "bob-1 whole\n", "\nbob-1 whole\n", "blank"),
    ],
)
def test_inconsistent_tables_are_refused(data_dir: Path, name: str, old: str, new: str, problem: str) -> None:
    replace_in(data_dir / name, old, new)
    with pytest.raises(UserError, match=problem):
        read_data_dir(data_dir)


def test_segment_rounded_past_the_end_is_accepted_and_clipped(data_dir: Path) -> None:
    replace_in(data_dir / "segments", "0.500000 2.000000", "0.5 2.01")
    assert len(load_utterance(read_data_dir(data_dir)[1], RATE)) == 1.5 * RATE


def test_table_that_is_not_text_is_refused(data_dir: Path) -> None:
    (data_dir / "text").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_data_dir(data_dir)


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such directory"):
        read_data_dir(tmp_path / "nowhere")


def test_parts_and_wholes_are_loaded_as_mono_at_the_rate(data_dir: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(tmp_path / "long.wav", dtype="int16")
    first, second, third = (load_utterance(utterance, RATE) for utterance in read_data_dir(data_dir))
    np.testing.assert_array_equal(np.concatenate([first, second]), samples)
    assert third.shape == (RATE,)
    stereo = recording(tmp_path / "stereo.flac", 0.5, channels=2, rate=8000)
    assert load_utterance(Utterance("a", "a", str(stereo)), RATE).shape == (8000,)


def test_many_parts_open_their_recording_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = soundfile.SoundFile

    def counting(source: object) -> soundfile.SoundFile:
        opened.append(source)
        return original(source)

    utterances = read_data_dir(data_dir)
    monkeypatch.setattr("zfaudio.corpus.audio.soundfile.SoundFile", counting)
    loaded = list(load_utterances(utterances, RATE))
    assert len(opened) == 2
    for utterance, waveform in loaded:
        np.testing.assert_array_equal(waveform, load_utterance(utterance, RATE))


def test_one_bad_recording_does_not_lose_the_others(data_dir: Path, tmp_path: Path) -> None:
    utterances = read_data_dir(data_dir)
    (tmp_path / "long.wav").write_bytes(b"")
    first, second, third = (result for _, result in load_utterances(utterances, RATE))
    assert isinstance(first, RejectedRecording)
    assert isinstance(second, RejectedRecording)
    assert isinstance(third, np.ndarray)


def test_commands_are_refused_unless_allowed(tmp_path: Path) -> None:
    wav = recording(tmp_path / "a.wav", 0.5)
    witness = tmp_path / "ran"
    write_data_dir(tmp_path / "data", [Utterance("a-1", "a", f"touch {witness}; cat {wav} |")])
    with pytest.raises(UserError, match="--allow-pipes"):
        read_data_dir(tmp_path / "data")
    (utterance,) = read_data_dir(tmp_path / "data", allow_pipes=True)
    with pytest.raises(UserError, match="--allow-pipes"):
        load_utterance(utterance, RATE)
    assert not witness.exists()
    samples, _ = soundfile.read(wav, dtype="int16")
    np.testing.assert_array_equal(load_utterance(utterance, RATE, allow_pipes=True), samples)
    assert witness.exists()


def test_failing_command_is_rejected() -> None:
    with pytest.raises(RejectedRecording, match="status 3"):
        load_utterance(Utterance("a", "a", "exit 3 |"), RATE, allow_pipes=True)


def test_whole_recording_of_unknown_length_cannot_stand_beside_parts(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(RATE, dtype=np.int16), RATE)
    path = str(tmp_path / "a.wav")
    with pytest.raises(UserError, match="length is not known"):
        write_data_dir(tmp_path / "data", [Utterance("a", "a", path), Utterance("b", "b", path, 0.0, 0.5)])


def test_rejects_are_listed_sorted(tmp_path: Path) -> None:
    write_rejects(tmp_path / "rejects.txt", [Reject("b", "/x.wav", "empty file"), Reject("a", "/y.wav", "no samples")])
    assert (tmp_path / "rejects.txt").read_text() == "a\tno samples\t/y.wav\nb\tempty file\t/x.wav\n"
