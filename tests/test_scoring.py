"""Scoring in several passes, and in the segments of the published evaluation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import FRAME_SIZE, build, tiny

from zfaudio.data.loader import Batch
from zfaudio.evaluation.scoring import Segments, cut_frames, latent_generator, score_utterances
from zfaudio.models import FrameModel

CPU = torch.device("cpu")
LENGTHS = [98, 86, 51, 41, 2]  # frames: 97, 85, 50, 40 and 1 are scored


def batch_of(lengths: list[int]) -> Batch:
    torch.manual_seed(3)
    rows = [torch.randn(length, FRAME_SIZE, dtype=torch.float64) for length in lengths]
    return Batch(
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        torch.tensor(lengths),
        torch.ones(len(lengths), dtype=torch.bool),
        [f"utterance-{i}" for i in range(len(lengths))],
    )


def evaluate_as_published(model: FrameModel, batch: Batch) -> float:
    """What eval_timit.py computes: inputs, targets and mask [rows, time] in arrays filled up to 32 rows."""
    rows, time = 32, batch.frames.shape[1] - 1
    inputs, targets = torch.zeros(2, rows, time, FRAME_SIZE, dtype=torch.float64)
    mask = torch.zeros(rows, time, dtype=torch.float64)
    noise = torch.zeros(rows, time, model.latent_noise(1).shape[-1])
    for row, length in enumerate(batch.lengths.tolist()):
        inputs[row, : length - 1] = batch.frames[row, : length - 1]
        targets[row, : length - 1] = batch.frames[row, 1:length]
        mask[row, : length - 1] = 1
        noise[row, : length - 1] = model.latent_noise(length - 1, latent_generator(0, batch.utterances[row]))
    total = 0.0
    for first in range(0, time, 40):
        part = slice(first, first + 40)
        frames = torch.cat([inputs[:, part][:, :1], targets[:, part]], dim=1)
        terms = model(frames, torch.full((rows,), frames.shape[1]), noise=noise[:, part])
        total += float(((terms.log_likelihood - terms.kl) * mask[:, part]).sum(1).mean())
    return total


@pytest.mark.parametrize("name", ["zforcing", "rnn", "vrnn"])
@torch.inference_mode()
def test_segments_score_what_the_published_evaluation_computes(name):
    model, batch = build(tiny(name)).eval(), batch_of(LENGTHS)
    scores = list(score_utterances(model, [batch], CPU, segments=Segments(longest=97)))
    assert [one.frames for one in scores] == [97, 85, 50, 40, 1]
    assert sum(one.nats for one in scores) / 32 == pytest.approx(evaluate_as_published(model, batch), rel=1e-9)
    for one in scores:
        assert one.frame_nats.sum() == pytest.approx(one.nats)


def test_cutting_changes_nothing_before_the_first_cut_for_a_model_that_only_looks_back():
    model, batch = build(tiny("rnn")).eval(), batch_of(LENGTHS)
    whole = list(score_utterances(model, [batch], CPU))
    cut = list(score_utterances(model, [batch], CPU, segments=Segments(longest=97)))
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one.frame_nats[:40], other.frame_nats[:40], rtol=1e-9)
        assert one.frames <= 40 or not np.allclose(one.frame_nats[40:], other.frame_nats[40:])


def test_scores_of_segments_do_not_depend_on_the_batch():
    model = build(tiny("zforcing")).eval()
    together = batch_of(LENGTHS)
    scores = {
        one.utterance: one.nats for one in score_utterances(model, [together], CPU, draws=2, segments=Segments(97))
    }
    for row, length in enumerate(LENGTHS):
        name = together.utterances[row]
        alone = Batch(together.frames[row : row + 1, :length], torch.tensor([length]), together.starts[:1], [name])
        (one,) = score_utterances(model, [alone], CPU, draws=2, segments=Segments(97))
        assert one.nats == pytest.approx(scores[name], rel=1e-9)


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 3), st.integers(0, 30))
def test_segments_hold_every_scored_frame_once_and_begin_with_the_frame_before(time, steps, rows, longer):
    frames = torch.arange(1.0, 1 + rows * time * 2).view(rows, time, 2)
    segments, lengths = cut_frames(frames, Segments(longest=time - 1 + longer, steps=steps))
    assert segments.shape[1:] == (steps + 1, 2)
    by_row = segments.view(rows, -1, steps + 1, 2)
    scored = by_row[:, :, 1:].reshape(rows, -1, 2)
    assert torch.equal(scored[:, : time - 1], frames[:, 1:])
    assert not scored[:, time - 1 :].any()  # padding
    assert torch.equal(by_row[:, :, 0], frames[:, :-1:steps])
    ends = [min(steps, time - 1 + longer - first) + 1 for first in range(0, time - 1, steps)]
    assert lengths.tolist() == ends * rows


@pytest.mark.parametrize("weighted", [True, False])
def test_no_pass_holds_more_frames_than_asked_for(weighted):
    """Several draws of an utterance share a pass, for which a batch is split: here into 10 and 8, and 5."""
    model, seen, read = build(tiny("zforcing")).eval(), [], []

    def note(_, arguments, options):
        read.append(len(arguments[0]))
        seen.append(len(options["noise"]) * arguments[0].shape[1])

    model.register_forward_pre_hook(note, with_kwargs=True)
    batch = batch_of([10, 8, 5])
    list(score_utterances(model, [batch], CPU, draws=100, importance_weighted=weighted, frames_per_pass=200))
    assert max(seen) <= 200
    assert sum(seen) == 100 * (2 * 10 + 5)
    assert sum(read) <= 100 * 3 / 10


@pytest.mark.parametrize("name", ["zforcing", "srnn"])
def test_draws_that_share_a_pass_score_as_those_that_do_not(monkeypatch, name):
    model, batch = build(tiny(name)).eval(), batch_of([10, 8, 5])
    options = {"draws": 12, "importance_weighted": True}
    together = list(score_utterances(model, [batch], CPU, **options))
    monkeypatch.setattr(type(model), "many_draws", False)
    apart = list(score_utterances(model, [batch], CPU, **options))
    for ours, theirs in zip(together, apart, strict=True):
        assert (ours.utterance, ours.frames) == (theirs.utterance, theirs.frames)
        assert ours.nats == pytest.approx(theirs.nats, rel=1e-9)
        assert ours.kl == pytest.approx(theirs.kl, rel=1e-9)
