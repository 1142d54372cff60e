import os
from dataclasses import replace
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
from zfaudio.corpus.splice import Sound, Source
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


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk"])
def test_missing_table_is_named(data_dir: Path, name: str) -> None:
    (data_dir / name).unlink()
    with pytest.raises(UserError, match=f"no file {name}"):
        read_data_dir(data_dir)


def test_without_spk2utt_it_is_not_kaldis_but_can_be_read(data_dir: Path) -> None:
    expected = read_data_dir(data_dir)
    (data_dir / "spk2utt").unlink()
    assert validate_data_dir(data_dir) == ["no file spk2utt"]
    assert read_data_dir(data_dir) == expected
    replace_in(data_dir / "utt2spk", "ann-1 ann\n", "ann-1 zoe\n")  # no order of speakers to keep
    assert [utterance.speaker for utterance in read_data_dir(data_dir)] == ["zoe", "ann", "bob"]


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("spk2utt", "ann ann-1 ann-2", "ann ann-1", "spk2utt"),
        ("utt2spk", "ann-1 ann\n", "ann-1 zoe\n", "by speaker"),
        ("utt2spk", "ann-1 ann\n", "ann-1\n", "exactly one speaker"),
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


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("0.500000 2.000000", "0.500000 2.500100", "ends at 2.5001 s, but its recording ends at 2.000 s"),
        ("0.500000 2.000000", "2.100000 2.200000", "starts at 2.1 s, but its recording ends at 2.000 s"),
        ("0.500000 2.000000", "0.500000 0.500000", "before it starts"),
        ("0.500000 2.000000", "-0.5 2.0", "not RECORDING START END"),
        ("0.500000 2.000000", "0.5 -2", "not RECORDING START END"),
        ("0.500000 2.000000", "0.5 nan", "not RECORDING START END"),
        ("0.500000 2.000000", "0.5 2.0 left", "channel left is not a number"),
        ("0.500000 2.000000", "0.5 2.0 1", "no channel 1"),
        ("0.500000 2.000000", "0.5", "not RECORDING START END"),
        ("ann-2 rec1", "ann-2 rec7", "rec7, which is not in wav.scp"),
    ],
)
def test_a_wrong_segment_is_rejected_and_all_others_are_read(data_dir: Path, old: str, new: str, problem: str) -> None:
    replace_in(data_dir / "segments", old, new)
    first, second, third = (result for _, result in load_utterances(read_data_dir(data_dir), RATE))
    assert isinstance(second, RejectedRecording)
    assert problem in second.reason
    assert isinstance(first, np.ndarray)
    assert isinstance(third, np.ndarray)


@pytest.mark.parametrize("end", ["2.01", "2.3", "2.5", "-1", "-1.0"])
def test_segment_that_ends_past_the_end_or_at_it_is_cut(data_dir: Path, tmp_path: Path, end: str) -> None:
    replace_in(data_dir / "segments", "0.500000 2.000000", f"0.5 {end}")
    samples, _ = soundfile.read(tmp_path / "long.wav", dtype="int16")
    np.testing.assert_array_equal(load_utterance(read_data_dir(data_dir)[1], RATE), samples[RATE // 2 :])


def test_end_of_minus_one_gets_its_length_from_reco2dur(data_dir: Path) -> None:
    replace_in(data_dir / "segments", "0.500000 2.000000", "0.5 -1")
    (data_dir / "utt2dur").unlink()
    assert read_data_dir(data_dir)[1].duration is None
    (data_dir / "reco2dur").write_text("bob-1 1.0\nrec1 2.0\n")
    assert read_data_dir(data_dir)[1].duration == 1.5


def test_channel_column_of_segments_counts_from_0(tmp_path: Path) -> None:
    path = recording(tmp_path / "call.wav", channels=2)
    left_and_right, _ = soundfile.read(path, dtype="int16")
    write_data_dir(tmp_path / "data", [Utterance(id, id, str(path), 0.0, 0.5, None, "call") for id in ("a", "b")])
    (tmp_path / "data" / "segments").write_text("a call 0 0.5 0\nb call 0 0.5 1\n")
    for channel, utterance in enumerate(read_data_dir(tmp_path / "data")):
        np.testing.assert_array_equal(load_utterance(utterance, RATE), left_and_right[: RATE // 2, channel])


def test_reco2file_and_channel_chooses_the_side_of_a_recording_with_two(tmp_path: Path) -> None:
    call, side = recording(tmp_path / "call.wav", channels=2), recording(tmp_path / "side.wav")
    write_data_dir(
        tmp_path / "data",
        [Utterance("x-A", "x", str(call)), Utterance("x-B", "x", str(call)), Utterance("y-B", "y", str(side))],
    )
    (tmp_path / "data" / "reco2file_and_channel").write_text("x-A x A\nx-B x B\ny-B y B\n")
    loaded = [load_utterance(utterance, RATE) for utterance in read_data_dir(tmp_path / "data")]
    left_and_right, _ = soundfile.read(call, dtype="int16")
    np.testing.assert_array_equal(loaded[0], left_and_right[:, 0])
    np.testing.assert_array_equal(loaded[1], left_and_right[:, 1])
    np.testing.assert_array_equal(loaded[2], soundfile.read(side, dtype="int16")[0])


def test_chosen_channel_is_used_where_the_data_directory_chooses_none(tmp_path: Path) -> None:
    path = recording(tmp_path / "call.wav", channels=2)
    left_and_right, _ = soundfile.read(path, dtype="int16")
    plain = Utterance("a", "a", str(path))
    for utterance, channel, expected in ((plain, 0, 0), (plain, 1, 1), (replace(plain, channel=0), 1, 0)):
        ((_, waveform),) = load_utterances([utterance], RATE, channel=channel)
        np.testing.assert_array_equal(waveform, left_and_right[:, expected])
    ((_, rejection),) = load_utterances([plain], RATE, channel=2)
    assert isinstance(rejection, RejectedRecording)
    assert rejection.reason == "no channel 2 (counted from 0): it has 2"


def test_channels_that_cancel_each_other_out_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speech, other = rng.integers(-9000, 9000, (2, RATE))
    signals = {
        "opposite": (speech, -speech),
        "same": (speech, speech),
        "unlike": (speech, other),
        "silent": (0 * speech,) * 2,
    }
    signals["nearly"] = (speech, np.rint(-0.8 * speech))
    for name, channels in signals.items():
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, axis=1).astype(np.int16), RATE)
    noted: list[str] = []
    utterances = [Utterance(name, name, str(tmp_path / f"{name}.wav")) for name in signals]
    list(load_utterances(utterances, RATE, note_weak_mix=lambda utterance: noted.append(utterance.id)))
    assert noted == ["opposite", "nearly"]


def test_recordings_inside_an_archive_are_read_at_their_offset(tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 0.3), ("b", 0.5), ("c", 0.4))]
    content, entries = b"", {}
    for path in paths:
        content += f"{path.stem} ".encode()
        entries[path.stem] = f"{tmp_path / 'wav.ark'}:{len(content)}"
        content += path.read_bytes()
    (tmp_path / "wav.ark").write_bytes(content)
    write_data_dir(tmp_path / "data", [Utterance(name, name, entry) for name, entry in entries.items()])
    for path, utterance in zip(paths, read_data_dir(tmp_path / "data"), strict=True):
        np.testing.assert_array_equal(load_utterance(utterance, RATE), soundfile.read(path, dtype="int16")[0])
    for wrong, reason in (
        ("nowhere.ark:4", "no such file"),
        ("wav.ark:5", "not readable"),
        ("wav.ark:99999999", "empty"),
    ):
        with pytest.raises(RejectedRecording, match=reason):
            load_utterance(Utterance("a", "a", str(tmp_path / wrong)), RATE)
    (tmp_path / "a:4").write_bytes(paths[1].read_bytes())  # a file of that name comes first
    assert len(load_utterance(Utterance("a", "a", str(tmp_path / "a:4")), RATE)) == RATE // 2


def test_byte_order_mark_and_line_ends_of_windows_are_read(data_dir: Path) -> None:
    expected = read_data_dir(data_dir)
    for path in data_dir.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_data_dir(data_dir) == expected


def test_names_that_are_not_utf_8_are_read_and_written(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    recording(tmp_path / "a.wav").rename(path)
    write_data_dir(tmp_path / "data", [Utterance("a-1", "a", str(path))])
    (utterance,) = read_data_dir(tmp_path / "data")
    assert utterance.recording == str(path)
    assert len(load_utterance(utterance, RATE)) == RATE
    for table in ("wav.scp", "utt2spk", "spk2utt"):
        (tmp_path / "data" / table).write_bytes((tmp_path / "data" / table).read_bytes().replace(b"a-1", b"a-\xe9"))
    (utterance,) = read_data_dir(tmp_path / "data")
    assert utterance.id == r"a-\xe9"
    assert len(load_utterance(utterance, RATE)) == RATE


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
    original = Source.open

    def counting(source: Source) -> Sound:
        opened.append(source)
        return original(source)

    utterances = read_data_dir(data_dir)
    monkeypatch.setattr(Source, "open", counting)
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


def test_failing_command_is_rejected_with_what_it_says() -> None:
    with pytest.raises(RejectedRecording, match="status 3"):
        load_utterance(Utterance("a", "a", "exit 3 |"), RATE, allow_pipes=True)
    with pytest.raises(RejectedRecording, match="status 8: no option map_channel"):
        load_utterance(Utterance("a", "a", "echo no option map_channel >&2; exit 8 |"), RATE, allow_pipes=True)


def test_command_may_write_flac_without_its_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.arange(RATE, dtype=np.int16), RATE)
    streamed = bytearray((tmp_path / "a.flac").read_bytes())
    streamed[21:26] = bytes([streamed[21] & 0xF0, 0, 0, 0, 0])  # the number of samples, 36 bits
    (tmp_path / "streamed.flac").write_bytes(streamed)
    command = f"cat '{tmp_path / 'streamed.flac'}' |"
    np.testing.assert_array_equal(load_utterance(Utterance("a", "a", command), RATE, True), np.arange(RATE))


def test_whole_recording_of_unknown_length_cannot_stand_beside_parts(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(RATE, dtype=np.int16), RATE)
    path = str(tmp_path / "a.wav")
    with pytest.raises(UserError, match="length is not known"):
        write_data_dir(tmp_path / "data", [Utterance("a", "a", path), Utterance("b", "b", path, 0.0, 0.5)])


def test_rejects_are_listed_sorted(tmp_path: Path) -> None:
    write_rejects(tmp_path / "rejects.txt", [Reject("b", "/x.wav", "empty file"), Reject("a", "/y.wav", "no samples")])
    assert (tmp_path / "rejects.txt").read_text() == "a\tno samples\t/y.wav\nb\tempty file\t/x.wav\n"


def test_rejects_of_any_name_are_one_line_each(tmp_path: Path) -> None:
    names = [b"/caf\xe9.wav", b"/line\nbreak\ttab.wav", b"/\x1b[31mred.wav", "/\u00e9t\u00e9.wav".encode()]
    write_rejects(tmp_path / "rejects.txt", [Reject(str(i), os.fsdecode(name), "bad") for i, name in enumerate(names)])
    assert (tmp_path / "rejects.txt").read_text(encoding="utf-8").split("\n") == [
        r"0	bad	/caf\xe9.wav",
        r"1	bad	/line\nbreak\ttab.wav",
        r"2	bad	/\x1b[31mred.wav",
        "3	bad	/\u00e9t\u00e9.wav",
        "",
    ]
