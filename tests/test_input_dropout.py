import pytest
import torch
from tiny_models import build, sequences, tiny

from zfaudio.models.checks import check_model
from zfaudio.models.input_dropout import InputDropout

MODELS = ("rnn", "vrnn", "srnn", "zforcing")


def test_whole_frames_are_dropped_and_only_in_training():
    features = torch.rand(4, 1000, 3) + 1
    dropout = InputDropout(0.3)
    dropped = dropout(features)
    zero = (dropped == 0).all(-1)
    assert torch.equal(dropped, torch.where(zero.unsqueeze(-1), 0, features))
    assert zero.float().mean() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(dropout.eval()(features), features)
    assert torch.equal(InputDropout(0.0)(features), features)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_whose_state_reads_no_frame_is_still_a_model(name):
    check_model(tiny(name, input_dropout=1.0))


@pytest.mark.parametrize("name", MODELS)
def test_in_training_what_the_state_reads_varies_from_pass_to_pass(name):
    model = build(tiny(name, input_dropout=0.5)).train()
    frames, lengths, noise = sequences(9, 6)
    noise = noise[..., : model.latent_size]
    passes = [model(frames, lengths, noise=noise).log_likelihood for _ in range(2)]
    assert not torch.equal(*passes)
    model.eval()
    assert torch.equal(*(model(frames, lengths, noise=noise).log_likelihood for _ in range(2)))


@pytest.mark.parametrize("name", ["rnn", "zforcing"])
def test_at_full_dropout_nothing_is_known_of_the_frames_before(name):
    """The first frame is heard by no state, and no posterior, of later frames."""
    model = build(tiny(name, input_dropout=1.0))
    frames, lengths, noise = sequences(9, 6)
    noise = noise[..., : model.latent_size]
    before = model(frames, lengths, noise=noise).elbo
    frames = frames.clone()
    frames[:, 0] += 1
    assert torch.equal(model(frames, lengths, noise=noise).elbo, before)
