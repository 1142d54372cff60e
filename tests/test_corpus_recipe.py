"""Corpora by name: small layouts made like each corpus, prepared by lhotse, to shards."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from speech import speech

from data_prep import corpus as preparation
from data_prep.corpus import CORPORA, corpus
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import TimedLabel
from zfaudio.evaluation.lhotse_labels import read_aligned
from zfaudio.evaluation.word_labels import read_words

pytest.importorskip("lhotse", reason="lhotse is an extra: pip install 'zfaudio[lhotse]'")

HEADER = "ID  AGE  GENDER  ACCENTS  REGION"  # of VCTK's list of speakers
RECIPE = Path(__file__).parents[1] / "recipes" / "corpus" / "run.sh"


def record(path: Path, rate: int = 16000) -> str:
    """Write half a second of speech, and return the name of the file without its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech(rate // 2, seed=sum(path.name.encode()), rate=rate), rate, subtype="PCM_16")
    return path.stem


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# Layouts


def ljspeech(folder: Path) -> None:
    names = [record(folder / "wavs" / f"LJ001-{i:04d}.wav", 22050) for i in range(8)]
    write(folder / "metadata.csv", *(f"{name}|No. 1|number one" for name in names))


def vctk(folder: Path) -> None:
    write(
        folder / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION", *(f"p{i} 23 F English York" for i in (1, 2, 3))
    )
    for speaker in ("p1", "p2", "p3"):
        for i in (1, 2):
            for microphone in ("mic1", "mic2"):
                record(folder / "wav48_silence_trimmed" / speaker / f"{speaker}_00{i}_{microphone}.flac", 48000)
            write(folder / "txt" / speaker / f"{speaker}_00{i}.txt", "Please call.")


def vctk_of_2012(folder: Path) -> None:
    write(
        folder / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION", *(f"{i} 23 F English York" for i in (1, 2, 3))
    )
    for speaker in ("p1", "p2", "p3"):
        for i in (1, 2):
            record(folder / "wav48" / speaker / f"{speaker}_00{i}.wav", 48000)
            write(folder / "txt" / speaker / f"{speaker}_00{i}.txt", "Please call.")


def librispeech(folder: Path) -> None:
    for speaker, part in enumerate(("train-clean-100", "train-other-500", "dev-clean", "dev-other", "test-clean"), 19):
        chapter = folder / part / str(speaker) / "7"
        names = [record(chapter / f"{speaker}-7-000{i}.flac") for i in range(2)]
        write(chapter / f"{speaker}-7.trans.txt", *(f"{name} SO IT" for name in names))
        write(
            chapter / f"{speaker}-7.alignment.txt", *(f'{name} ",SO,IT," "0.100,0.250,0.400,0.500"' for name in names)
        )


def mini_librispeech(folder: Path) -> None:
    for speaker, part in ((1, "train-clean-5"), (2, "train-clean-5"), (3, "train-clean-5"), (4, "dev-clean-2")):
        chapter = folder / part / str(speaker) / "7"
        write(chapter / f"{speaker}-7.trans.txt", f"{record(chapter / f'{speaker}-7-0000.flac')} SO IT")


def libritts(folder: Path) -> None:
    write(folder / "SPEAKERS.txt", ";ID | SEX", "19 | F | train-clean-100 | 25.03 | Ann")
    for speaker, part in ((19, "train-clean-100"), (20, "dev-clean"), (21, "test-clean")):
        chapter = folder / part / str(speaker) / "7"
        names = [record(chapter / f"{speaker}_7_000000_00000{i}.wav", 24000) for i in range(2)]
        write(chapter / f"{speaker}_7.trans.tsv", *(f"{name}\tNo. 1\tnumber one" for name in names))
        write(chapter / f"{speaker}_7.book.tsv", *(f"{name}\tNo. 1\tnumber one\t20.0" for name in names))


def speechcommands(folder: Path) -> None:
    training, test = folder / "speech_commands_v0.02", folder / "speech_commands_test_set_v0.02"
    for speaker in ("0a", "1b", "2c"):
        record(training / "yes" / f"{speaker}_nohash_0.wav")
    for name in ("running_tap", "white_noise"):
        record(training / "_background_noise_" / f"{name}.wav")
    write(training / "validation_list.txt", "yes/1b_nohash_0.wav")
    write(training / "testing_list.txt", "yes/2c_nohash_0.wav")
    record(test / "yes" / "2c_nohash_0.wav")
    record(test / "_silence_" / "0.wav")


def cmu_arctic(folder: Path) -> None:
    for speaker in ("bdl", "slt", "clb"):
        inside = folder / f"cmu_us_{speaker}_arctic"
        names = [record(inside / "wav" / f"arctic_a000{i}.wav") for i in (1, 2)]
        write(inside / "etc" / "txt.done.data", *(f'( {name} "Author of the danger trail." )' for name in names))


def aishell(folder: Path) -> None:
    inside = folder / "data_aishell"
    names = [
        record(inside / "wav" / part / speaker / f"BAC009{speaker}W012{i}.wav")
        for part, speaker in (("train", "S0002"), ("dev", "S0724"), ("test", "S0764"))
        for i in range(2)
    ]
    write(inside / "transcript" / "aishell_transcript_v0.8.txt", *(f"{name} 而 对" for name in names))


def yesno(folder: Path) -> None:
    for i in range(60):
        record(folder / f"{'_'.join(f'{i:08b}')}.wav", 8000)


LAYOUTS: dict[str, tuple[str, Callable[[Path], None], dict[str, int]]] = {
    "LJSpeech": ("ljspeech", ljspeech, {"train": 6, "valid": 1, "test": 1}),
    "VCTK 0.92": ("vctk", vctk, {"train": 2, "valid": 2, "test": 2}),
    "VCTK 0.80": ("vctk", vctk_of_2012, {"train": 2, "valid": 2, "test": 2}),
    "LibriSpeech": ("librispeech", librispeech, {"train": 4, "valid": 2, "test": 2}),
    "mini LibriSpeech": ("librispeech", mini_librispeech, {"train": 2, "valid": 1, "test": 1}),
    "LibriTTS": ("libritts", libritts, {"train": 2, "valid": 2, "test": 2}),
    "Speech Commands": ("speechcommands", speechcommands, {"train": 2, "valid": 2, "test": 2}),
    "CMU ARCTIC": ("cmu-arctic", cmu_arctic, {"train": 2, "valid": 2, "test": 2}),
    "AISHELL": ("aishell", aishell, {"train": 2, "valid": 2, "test": 2}),
    "one that is in no table": ("yesno", yesno, {"train": 28, "valid": 2, "test": 30}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_corpus_becomes_shards_with_the_splits_of_the_field_or_else_ours(tmp_path: Path, layout: str) -> None:
    name, write_layout, expected = LAYOUTS[layout]
    write_layout(tmp_path / "corpus")
    corpus(name, tmp_path / "corpus", tmp_path / "data")
    manifest = shard(tmp_path / "data", tmp_path / "shards", sample_rate=8000)
    assert {name: split.utterances for name, split in manifest.splits.items()} == expected
    assert not (tmp_path / "shards" / "rejects.txt").read_text()
    for split in expected:
        found = {one.id for one in read_utterances(tmp_path / "shards", split)}
        assert set(supervision_ids(tmp_path / "data" / split)) == found


def test_every_corpus_of_the_table_has_a_layout_here() -> None:
    assert CORPORA.keys() <= {name.replace("-", "_") for name, _, _ in LAYOUTS.values()}


def test_speakers_stay_in_one_split(tmp_path: Path) -> None:
    cmu_arctic(tmp_path / "corpus")
    corpus("cmu_arctic", tmp_path / "corpus", tmp_path / "data")
    shard(tmp_path / "data", tmp_path / "shards")
    found = {split: {one.speaker for one in read_utterances(tmp_path / "shards", split)} for split in ("train", "test")}
    assert len(found["train"]) == len(found["test"]) == 1
    assert not found["train"] & found["test"]


def test_words_that_are_aligned_are_where_quality_reads_them(tmp_path: Path) -> None:
    librispeech(tmp_path / "corpus")
    corpus("librispeech", tmp_path / "corpus", tmp_path / "data")
    words = read_words(tmp_path / "data", "test")
    assert words["23-7-0000"] == [TimedLabel(0.1, 0.25, "SO"), TimedLabel(0.25, 0.4, "IT")]


def test_a_part_that_is_not_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for prepared, said in (({"train": 1, "other": 2}, "not used: the parts other\n"), ({"one": 1, "two": 2}, "")):
        preparation.assign_parts(prepared, {})
        assert capsys.readouterr().out == said


def test_manifests_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    librispeech(tmp_path / "corpus")
    corpus("librispeech", tmp_path / "corpus", tmp_path / "data")
    corpus("librispeech", tmp_path / "corpus", tmp_path / "data", valid_fraction=0.0)
    ljspeech(tmp_path / "other")
    corpus("ljspeech", tmp_path / "other", tmp_path / "data", test_fraction=0.0)
    assert not list((tmp_path / "data" / "test").iterdir())
    assert read_aligned(tmp_path / "data" / "train", "word") == {}


def test_a_recording_that_is_gone_does_not_lose_the_others(tmp_path: Path) -> None:
    ljspeech(tmp_path / "corpus")
    corpus("ljspeech", tmp_path / "corpus", tmp_path / "data")
    gone = supervision_ids(tmp_path / "data" / "train")[0]
    (tmp_path / "corpus" / "wavs" / f"{gone}.wav").unlink()
    shard(tmp_path / "data", tmp_path / "shards")
    assert read_manifest(tmp_path / "shards").splits["train"].utterances == 5
    assert (tmp_path / "shards" / "rejects.txt").read_text().startswith(f"{gone}\tno such file")


def supervision_ids(folder: Path) -> list[str]:
    with gzip.open(folder / "supervisions.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["id"] for line in lines]


# What is wrong


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("ljspech", "corpus", "--name ljspech: lhotse prepares no such corpus; --list prints the names"),
        ("ljspeech", "nowhere", "nowhere: no such folder"),
        (
            "vctk",
            "corpus",
            r"lhotse cannot prepare it as vctk \(FileNotFoundError.*it should hold speaker-info",
        ),
        ("aishell", "corpus", r"lhotse cannot prepare it as aishell \(FileNotFoundError.*data_aishell"),
        ("librispeech", "corpus", "corpus: none of the parts train-clean-100, .* is in it"),
        ("libritts", "corpus", "corpus: none of the parts train-clean-100, .* is in it"),
        ("yesno", "corpus", r"lhotse cannot prepare it as yesno \(AssertionError"),
        ("fisher_english", "corpus", "lhotse needs corpus_dir, output_dir, not one folder; have it write manifests"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str, folder: str, said: str) -> None:
    ljspeech(tmp_path / "corpus")
    with pytest.raises(UserError, match=said) as caught:
        corpus(name, tmp_path / folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_without_lhotse_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse.recipes", None)
    with pytest.raises(UserError, match=r"need lhotse: pip install 'zfaudio\[lhotse\]'"):
        corpus("ljspeech", tmp_path, tmp_path / "data")


# The recipe


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(word) for word in (RECIPE, *words)]
    environment = os.environ | {"PATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_recipe_lists_names_with_license_and_size_and_leaves_nothing_behind(tmp_path: Path) -> None:
    finished = run("--list", "--exp", "exp", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "ljspeech        public domain             24 hours, one speaker" in finished.stdout
    assert "yesno" in finished.stdout.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_recipe_prepares_trains_and_reports(tmp_path: Path) -> None:
    ljspeech(tmp_path / "corpus")
    tiny = "--model.hidden_size 16 --model.latent_size 4 --model.embedding_size 16 --model.mlp_size 16"
    tiny += " --model.head_size 16 --train.max_steps 2 --train.batch_size 2 --train.device cpu"
    options = "--name ljspeech --corpus corpus --data data --exp exp --sample-rate 22050 --nj 1"
    conf = RECIPE.parent / "conf" / "22khz.yaml"
    finished = run(*options.split(), "--conf", conf, "--", *tiny.split(), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert read_manifest(tmp_path / "data" / "shards").sample_rate == 22050
    assert "run.sh --name ljspeech" in (tmp_path / "exp" / "report.html").read_text()


def test_the_recipe_wants_a_name_and_a_corpus(tmp_path: Path) -> None:
    assert "error: stage 0 needs --name NAME; --list prints" in run("--corpus", ".", "--exp", "e", cwd=tmp_path).stderr
    assert "error: stage 0 needs --corpus DIR" in run("--name", "vctk", "--exp", "e", cwd=tmp_path).stderr
    finished = run("--stage", 1, "--data", "d", "--exp", "e", cwd=tmp_path)
    assert "recordings.jsonl.gz is missing; stage 0 makes it" in finished.stderr
