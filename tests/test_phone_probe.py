"""Labels of frames, and probes of a model whose features are known to tell the phone or not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment import make_experiment
from scored_model import ScoredModel
from timit_tree import lay_out

from data_prep.timit import timit
from zfaudio.config import DataConfig, RunConfig
from zfaudio.data.frames import to_frames
from zfaudio.data.manifest import FORMAT_VERSION, Manifest, Shard, SplitManifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.distributions import DiagonalGaussian
from zfaudio.errors import UserError
from zfaudio.evaluation.latents import latents
from zfaudio.evaluation.phone_probe import FOLDED, Phone, fold, frame_labels, probe_phones, read_phones
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models.base import FrameTerms, Latents

FRAME_SIZE = 10
RATE = 1000  # a frame is 10 ms

TIMIT_PHONES = """
iy ih eh ey ae aa aw ay ah ao oy ow uh uw ux er ax ix axr ax-h b d g p t k dx q bcl dcl gcl pcl tcl kcl jh ch
s sh z zh f th v dh m n ng em en eng nx l r w y hh hv el pau epi h#
"""


def test_the_61_labels_fold_to_39_classes_and_the_glottal_stop_is_left_out():
    phones = set(TIMIT_PHONES.split())
    assert len(phones) == 61
    assert {phone for phone in phones if fold(phone) is None} == {"q"}
    assert len({fold(phone) for phone in phones - {"q"}}) == 39
    assert set(FOLDED) <= phones
    # Lee and Hon (1989), as in Kaldi's conf/phones.60-48-39.map.
    groups = """aa ao | ah ax ax-h | er axr | hh hv | ih ix | l el | m em | n en nx | ng eng | sh zh | uw ux
        | sil pcl tcl kcl bcl dcl gcl h# pau epi"""
    for group in groups.split("|"):
        first, *others = group.split()
        assert {fold(phone) for phone in others} == {first}
    assert fold("AH0") == "AH0"


def test_a_frame_has_the_phone_at_its_center():
    phones = [Phone(0.0, 0.025, "h#"), Phone(0.025, 0.04, "ao"), Phone(0.05, 0.06, "q"), Phone(0.06, 0.07, "t")]
    # The centers are at 5, 15, 25, 35, 45 (a gap), 55 (left out), 65 and 75 ms (past the end).
    assert frame_labels(phones, 0, 8, 0.01) == ["sil", "sil", "aa", "aa", None, None, "t", None]
    assert frame_labels(phones, 3, 2, 0.01) == ["aa", None]
    assert frame_labels([], 0, 2, 0.01) == [None, None]


def test_an_alignment_is_read_in_order_of_time(tmp_path):
    path = tmp_path / "phones.ctm"
    path.write_text(";; comment\nu1 1 0.5 0.25 t\nu1 1 0.0 0.5 h# 0.99\n\nu2 A 0 1 s\n")
    assert read_phones(tmp_path) == {
        "u1": [Phone(0.0, 0.5, "h#"), Phone(0.5, 0.75, "t")],
        "u2": [Phone(0.0, 1.0, "s")],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u1 1 0.5 t\n", "phones.ctm:1: 'u1 1 0.5 t' is not"),
        ("u1 1 a 0.5 t\n", "phones.ctm:1"),
        ("", "holds no phones"),
    ],
)
def test_what_is_no_alignment_is_named(tmp_path, text, said):
    path = tmp_path / "phones.ctm"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_phones(tmp_path)
    with pytest.raises(UserError, match="data_prep"):
        read_phones(tmp_path / "nowhere")


class Holding(ScoredModel):
    """Its posterior means are the scored frame, its prior means the frame before it, its states zeros."""

    def forward(self, frames, lengths, state=None, noise=None, ablation="none"):
        assert noise.shape == frames[:, 1:].shape
        nothing = torch.zeros_like(noise)
        prior, posterior = DiagonalGaussian(frames[:, :-1], nothing), DiagonalGaussian(frames[:, 1:], nothing)
        terms = nothing[..., 0]
        return FrameTerms(
            terms, terms, terms, None, None, (), Latents(prior, posterior, noise), hidden=nothing[..., :2]
        )


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """Shards of white noise, and alignments in which a frame's phone is the sign of its sum, a third of them `aa`."""
    counts = {"train": 8, "valid": 2, "test": 4}
    splits = {}
    (tmp_path / "shards").mkdir()
    for split, count in counts.items():
        utterances, lines = [], []
        for number in range(count):
            draws = np.random.default_rng([*split.encode(), number])
            waveform = (1000 * draws.standard_normal((100 + 20 * number) * FRAME_SIZE)).astype(np.int16)
            frames = to_frames(waveform, FRAME_SIZE)
            one = FramedUtterance(f"{split}-{number}", split, 0.0, len(waveform), frames)
            utterances.append(one)
            for index, frame in enumerate(frames):
                phone = "aa" if frame.sum() > 0.43 * 1000 * FRAME_SIZE**0.5 else "iy"
                lines.append(f"{one.id} 1 {index / 100:.6f} 0.010000 {phone}\n")
        with (tmp_path / "shards" / f"{split}-000000.tar").open("wb") as stream:
            digest = write_shard(stream, utterances)
        total = sum(len(one.frames) for one in utterances)
        splits[split] = SplitManifest([Shard(f"{split}-000000.tar", digest, count, total)], count, total, 0, 1)
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / split / "phones.ctm").write_text("".join(lines))
    manifest = Manifest(FORMAT_VERSION, FRAME_SIZE, RATE, 0.0, 1000.0, splits)
    (tmp_path / "shards" / "manifest.json").write_text(manifest.to_json())
    return tmp_path


def holding(folder: Path, score_first_frame: bool = False) -> Checkpoint:
    shards = str(folder / "shards")
    manifest = Manifest.from_json((folder / "shards" / "manifest.json").read_text())
    config = RunConfig(data=DataConfig(shards=shards, score_first_frame=score_first_frame))
    return Checkpoint(folder, Holding(FRAME_SIZE).eval(), config, manifest, step=1)


def probe(folder: Path, split: str = "test", score_first_frame: bool = False):
    return probe_phones(
        holding(folder, score_first_frame), str(folder / "shards"), folder / "data", split, frames_per_batch=500, seed=0
    )


@pytest.mark.parametrize("score_first_frame", [False, True])
def test_a_probe_finds_the_phone_only_in_features_that_depend_on_the_scored_frame(labeled, score_first_frame):
    result = probe(labeled, score_first_frame=score_first_frame)
    assert result.accuracy["posterior mean"] > 0.95
    assert result.majority_phone == "iy"
    assert 0.55 < result.majority_accuracy < 0.78
    assert result.accuracy["state"] == result.majority_accuracy
    assert result.accuracy["prior mean"] < result.majority_accuracy + 0.05
    first = 0 if score_first_frame else 1
    assert result.scored_frames == sum(100 + 20 * number - first for number in range(4))
    assert (result.fitted_split, result.scored_split) == ("train", "test")
    assert (result.fitted_utterances, result.scored_utterances, result.phones) == (8, 4, 2)


def test_frames_and_utterances_are_limited(labeled, monkeypatch):
    monkeypatch.setattr("zfaudio.evaluation.phone_probe.MOST_FRAMES", 100)
    monkeypatch.setattr("zfaudio.evaluation.phone_probe.MOST_UTTERANCES", 3)
    result = probe(labeled)
    assert (result.fitted_utterances, result.scored_utterances) == (3, 2)
    assert 90 <= result.fitted_frames <= 100
    assert 90 <= result.scored_frames <= 100


def test_utterances_without_an_alignment_are_passed_over(labeled):
    path = labeled / "data" / "test" / "phones.ctm"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("test-0 ")))
    assert probe(labeled).scored_utterances == 3
    path.write_text("elsewhere 1 0 1 aa\n")
    with pytest.raises(UserError, match="none of the 1 aligned utterances"):
        probe(labeled)


def test_without_training_alignments_probes_are_fitted_on_validation(labeled):
    assert probe(labeled, split="train").fitted_split == "valid"
    (labeled / "data" / "train" / "phones.ctm").unlink()
    assert probe(labeled).fitted_split == "valid"
    (labeled / "data" / "valid" / "phones.ctm").unlink()
    with pytest.raises(UserError, match=r"no train/phones\.ctm or valid/phones\.ctm"):
        probe(labeled)


def test_alignments_of_lhotse_give_the_result_of_the_same_in_ctm(labeled):
    expected = probe(labeled)
    for split in ("train", "valid", "test"):
        path = labeled / "data" / split / "phones.ctm"
        items: dict[str, list[list]] = {}
        for utterance, _, start, duration, phone in map(str.split, path.read_text().splitlines()):
            items.setdefault(utterance, []).append([phone, 5 + float(start), float(duration), None])
        path.unlink()
        lines = [{"id": id, "start": 5.0, "alignment": {"phone": several}} for id, several in items.items()]
        (labeled / "data" / split / "supervisions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert probe(labeled) == expected


def test_one_phone_alone_leaves_nothing_to_tell(labeled):
    path = labeled / "data" / "train" / "phones.ctm"
    path.write_text(path.read_text().replace(" aa", " iy"))
    with pytest.raises(UserError, match="all frames of split 'train' are of the phone 'iy'"):
        probe(labeled)


@pytest.mark.parametrize("model", ["zforcing", "rnn"])
def test_from_phone_files_of_timit_to_accuracies(tmp_path, model, capsys):
    corpus = lay_out(tmp_path / "disc", ["FABC0", "MDEF0", "MGHI1"], ["FJKL0"])
    timit(str(corpus), str(tmp_path / "data"), valid_fraction=0.1)
    shard(tmp_path / "data", tmp_path / "shards", frame_size=20)
    exp = make_experiment(tmp_path, shards=str(tmp_path / "shards"), model=model)
    latents(exp, phones=tmp_path / "data", device="cpu")
    found = json.loads((exp / "latents.json").read_text())["probe"]
    # A sentence has 20 frames. The first is not scored, 7 are labeled h# and 12 are labeled sh.
    assert (found["fitted_utterances"], found["fitted_frames"]) == (27, 27 * 19)
    assert (found["scored_utterances"], found["scored_frames"]) == (10, 10 * 19)
    assert (found["majority_phone"], found["majority_accuracy"]) == ("sh", pytest.approx(12 / 19))
    kinds = {"zforcing": {"posterior mean", "prior mean", "state"}, "rnn": {"state"}}
    assert set(found["accuracy"]) == kinds[model]
    assert f"state                          {100 * found['accuracy']['state']:.1f} %" in capsys.readouterr().out
