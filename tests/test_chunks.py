"""Long utterances are read in chunks: the same scores, in memory that does not grow with their length."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment import FRAME_SIZE as EXPERIMENT_FRAME_SIZE
from experiment import make_experiment
from hypothesis import given
from hypothesis import strategies as st
from scored_model import ScoredModel
from speech import make_shards
from tiny_models import FRAME_SIZE, build, every_combination, far_hearing, tiny

from zfaudio.config import DataConfig, FrameDensityConfig
from zfaudio.data.batches import Batch, FrameWriter, LongUtterance
from zfaudio.data.loader import batch_of_utterances
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.evaluation.ablation import run_passes
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents
from zfaudio.evaluation.phone_probe import features_at
from zfaudio.evaluation.scoring import Segments, latent_generator, score_utterances
from zfaudio.models.base import FrameModel, FrameTerms
from zfaudio.models.checks import random_frames
from zfaudio.models.chunks import ChunkedUtterance, chunk_borders
from zfaudio.seeds import derive_seed

CPU = torch.device("cpu")

VARIANTS: dict[str, FrameDensityConfig] = {
    **every_combination(),
    **{name: config for name, config in far_hearing().items() if config.likelihood == "logistic_mixture"},
    "srnn, filtering": tiny("srnn", smoothing=False),
    "srnn, plain core": tiny("srnn", core="plain"),
    "zforcing, plain core": tiny("zforcing", core="plain"),
    "zforcing, conditional layer norm": tiny("zforcing", conditional_layer_norm=True),
    "zforcing, all terms": tiny("zforcing", auxiliary="latent_and_state", backward_reconstruction=True),
}


def batch_of(length: int, model: FrameModel) -> Batch:
    torch.manual_seed(3)
    frames = random_frames(model, 1, length)
    return Batch(frames, torch.tensor([length]), torch.ones(1, dtype=torch.bool), ["long"])


@given(st.integers(1, 500), st.integers(1, 200), st.sampled_from([16, 80]))
def test_chunks_hold_every_step_once_and_all_but_the_last_whole_blocks(steps, frames_at_once, block):
    borders = chunk_borders(steps, frames_at_once, block)
    assert (borders[0], borders[-1]) == (0, steps)
    lengths = np.diff(borders)
    assert all(length > 0 and length % block == 0 for length in lengths[:-1])
    assert lengths[-1] >= min(block, steps)
    assert lengths.max() < max(frames_at_once, 2 * block)


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 5))
def test_noise_drawn_chunk_by_chunk_is_that_of_a_single_draw(steps, frames_at_once, size):
    model = build(tiny("zforcing", latent_size=size))
    whole, parts = latent_generator(0, "a"), latent_generator(0, "a")
    expected = [model.latent_noise(steps, whole) for _ in range(2)]
    borders = chunk_borders(steps, frames_at_once)
    for draw in expected:
        drawn = [model.latent_noise(last - first, parts) for first, last in itertools.pairwise(borders)]
        assert torch.equal(torch.cat(drawn), draw)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_chunks_score_what_the_whole_utterance_scores(name, weighted):
    model = build(VARIANTS[name]).eval()
    batch = batch_of(100, model)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    options = {"draws": 3, "importance_weighted": weighted}
    (whole,) = score_utterances(model, [batch], CPU, frames_per_pass=1000, **options)
    assert set(seen) == {100}
    seen.clear()
    (chunked,) = score_utterances(model, [batch], CPU, frames_per_pass=40, **options)
    assert max(seen) <= 40
    assert chunked.frames == whole.frames == 99
    assert chunked.nats == pytest.approx(whole.nats, rel=1e-9)
    assert chunked.kl == pytest.approx(whole.kl, rel=1e-9)
    np.testing.assert_allclose(chunked.frame_nats, whole.frame_nats, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["zforcing", "srnn"])
@torch.inference_mode()
def test_what_the_posterior_knows_of_the_future_is_the_same_in_chunks(name):
    model = build(tiny(name)).eval()
    batch = batch_of(90, model)
    utterance = ChunkedUtterance(model, batch, 33)
    expected = model.read_future(batch.frames, batch.lengths)
    assert utterance.future_states is not None
    parts = [
        model.read_future(frames, torch.tensor([frames.shape[1]]), future_state)
        for frames, future_state in zip(utterance.chunks, utterance.future_states, strict=True)
    ]
    assert len(parts) == 3
    torch.testing.assert_close(torch.cat(parts, 1), expected)


@pytest.mark.parametrize("name", ["zforcing", "rnn"])
def test_segments_of_the_published_evaluation_are_scored_in_chunks_too(name):
    model = build(tiny(name)).eval()
    batch = batch_of(250, model)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][..., 0].numel()))
    segments = Segments(longest=300)
    (whole,) = score_utterances(model, [batch], CPU, draws=2, frames_per_pass=1000, segments=segments)
    seen.clear()
    (chunked,) = score_utterances(model, [batch], CPU, draws=2, frames_per_pass=100, segments=segments)
    assert max(seen) <= 2 * 80 * 41 / 40
    assert chunked.nats == pytest.approx(whole.nats, rel=1e-9)
    assert chunked.kl == pytest.approx(whole.kl, rel=1e-9)


@pytest.mark.parametrize("name", ["zforcing", "srnn", "vrnn", "rnn", "sample_ar", "samplernn", "wavenet"])
def test_what_latents_and_states_are_worth_is_the_same_in_chunks(name):
    model = build(tiny(name, **({"head": "autoregressive"} if name == "sample_ar" else {}))).eval()
    batch = batch_of(100, model)
    (whole,), whole_totals = run_passes(model, batch, 0)
    (chunked,), chunked_totals = run_passes(model, batch, 0, frames_at_once=40)
    for ours, theirs in zip(chunked, whole, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert (chunked_totals is None) == (whole_totals is None)
    if chunked_totals is not None:
        for ours, theirs in zip(dataclasses.astuple(chunked_totals), dataclasses.astuple(whole_totals), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@torch.inference_mode()
def test_a_probe_reads_the_same_features_in_chunks():
    model = build(tiny("zforcing")).eval()
    batch = batch_of(100, model)
    steps = [np.array([0, 3, 15, 16, 17, 50, 98])]
    whole = dict(features_at(model, batch, steps, 0, 1000))
    chunked: dict[str, list[np.ndarray]] = {}
    for kind, values in features_at(model, batch, steps, 0, 40):
        chunked.setdefault(kind, []).append(values)
    assert whole.keys() == chunked.keys() == {"posterior mean", "prior mean", "state"}
    for kind, values in whole.items():
        np.testing.assert_allclose(np.concatenate(chunked[kind]), values, rtol=1e-6)


def test_a_model_that_reads_no_chunks_is_given_whole_utterances():
    lengths = []

    class Whole(ScoredModel):
        def forward(self, frames, lengths_, state=None, noise=None, ablation="none"):
            lengths.append(frames.shape[1])
            assert state is None
            return FrameTerms.exact(frames[:, 1:].sum(-1), ())

    model: FrameModel = Whole(FRAME_SIZE).eval()
    batch = batch_of(100, model)
    (score,) = score_utterances(model, [batch], CPU, draws=2, frames_per_pass=40)
    assert lengths == [100, 100]
    assert score.nats == pytest.approx(float(batch.frames[0, 1:].sum()))


@pytest.mark.parametrize("first_frame", [False, True])
@pytest.mark.parametrize("dequantize", [False, True])
def test_frames_made_part_by_part_are_those_of_the_batch(tmp_path, first_frame, dequantize):
    shards = make_shards(tmp_path, utterances={"train": 1}, frames=70)
    manifest = read_manifest(shards)
    (utterance,) = read_utterances(shards, "train")
    writer = FrameWriter(manifest, DataConfig(score_first_frame=first_frame, dequantize=dequantize))
    whole = batch_of_utterances([utterance], writer, manifest.frame_size, seed=7)
    long = LongUtterance(utterance, writer, manifest.frame_size, derive_seed(7, utterance.id))
    assert long.lengths.tolist() == whole.lengths.tolist()
    parts = [long.part(first, min(first + 16, 70 + first_frame)) for first in range(0, 70 + first_frame, 16)]
    assert torch.equal(torch.cat(parts, 1), whole.frames)
    assert torch.equal(whole.part(5, 9), whole.frames[:, 5:9])


@pytest.mark.parametrize("protocol", ["whole", "zforcing2017"])
def test_evaluate_scores_the_same_whatever_fits_into_a_batch(tmp_path, protocol):
    shards = make_shards(tmp_path / "shards", frames=[230, 100, 47], frame_size=EXPERIMENT_FRAME_SIZE)
    exp = make_experiment(tmp_path, shards=shards)
    whole = evaluate(exp, device="cpu", protocol=protocol)
    chunked = evaluate(exp, device="cpu", protocol=protocol, frames_per_batch=64)
    for ours, theirs in zip(chunked.scores, whole.scores, strict=True):
        assert (ours.utterance, ours.frames) == (theirs.utterance, theirs.frames)
        assert ours.nats == pytest.approx(theirs.nats, rel=1e-5)
    assert latents(exp, device="cpu", frames_per_batch=64).nats_per_frame == pytest.approx(
        latents(exp, device="cpu").nats_per_frame, rel=1e-5
    )


MEASURE = """
import resource, sys
sys.path.insert(0, {tests!r})
import torch
from zfaudio.evaluation.scoring import score_utterances
from tiny_models import tiny
from zfaudio.data.batches import FrameWriter, LongUtterance
from zfaudio.config import DataConfig
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.models import build_model
from zfaudio.distributions import Quantizer
import numpy as np
model = build_model(tiny({model!r}, hidden_size=64), 10, Quantizer(0.0, 100.0)).eval()
writer = FrameWriter(Manifest(1, 10, 16000, 0.0, 100.0), DataConfig())
for frames in (2_000, {frames}):
    waveform = np.random.default_rng(0).integers(-300, 300, (frames, 10)).astype(np.int16)
    long = LongUtterance(FramedUtterance("a", "a", 0.0, 10 * frames, waveform), writer, 10, 1)
    list(score_utterances(model, [long], torch.device("cpu"), frames_per_pass=1_000))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("model", ["zforcing", "srnn"])
def test_memory_does_not_grow_with_the_length_of_an_utterance(model):
    """24,000 frames take no more than 2,000, but for the audio and the scores of frames, which take 1 MB."""
    program = MEASURE.format(tests=str(Path(__file__).parent), model=model, frames=24_000)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    short, long = (int(line) / 1024 for line in ran.stdout.split())
    assert long - short < 20  # MB; read at once, they take 70
