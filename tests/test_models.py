"""What every model must hold to, with every frame likelihood and head."""

import dataclasses

import pytest
import torch
from tiny_models import (
    FRAME_SIZE,
    LATENT_SIZE,
    build,
    every_combination,
    far_hearing,
    noise_for,
    sequences,
    step_through,
    tiny,
)
from torch import Tensor, nn

from zfaudio.config import SampleARConfig
from zfaudio.distributions import LogisticMixture
from zfaudio.errors import UserError
from zfaudio.models import FrameModel
from zfaudio.models.checks import CHECKS, check_gradients, terms_of
from zfaudio.ops.cells import State
from zfaudio.training.objective import Weights, training_loss

COMBINATIONS = every_combination() | far_hearing()
combinations = pytest.mark.parametrize("config", COMBINATIONS.values(), ids=COMBINATIONS.keys())
latent_models = pytest.mark.parametrize("name", ["zforcing", "vrnn", "srnn"])


def assert_same_state(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@combinations
@pytest.mark.parametrize("check", set(CHECKS) - {check_gradients}, ids=lambda check: check.__name__)
def test_every_model_passes_the_checks_that_models_of_others_can_call(config, check):
    check(build(config))


def test_the_sample_predictor_sees_no_frame_but_the_last():
    """Its densities depend on the frame before, and on no earlier one."""
    model = build(tiny("sample_ar"))
    frames, _, noise = sequences(7)
    changed = frames.clone()
    changed[0, 3] += 1.0
    noise = noise_for(model, noise)
    (densities, _), (new_densities, _) = (step_through(model, x, noise) for x in (frames, changed))
    same = [
        torch.equal(density.log_prob(frames[:, 0]), new.log_prob(frames[:, 0]))
        for density, new in zip(densities, new_densities, strict=True)
    ]
    assert same == [t != 3 for t in range(6)]


@pytest.mark.parametrize("name", ["zforcing", "rnn", "vrnn", "srnn", "samplernn"])
def test_a_frame_moves_every_density_after_it(name):
    model = build(tiny(name))
    frames, _, noise = sequences(7)
    changed = frames.clone()
    changed[0, 3] += 1.0
    noise = noise_for(model, noise)
    (densities, _), (new_densities, _) = (step_through(model, x, noise) for x in (frames, changed))
    for density, new in zip(densities[3:], new_densities[3:], strict=True):
        assert not torch.equal(density.log_prob(frames[:, 0]), new.log_prob(frames[:, 0]))


# Padding and state


@combinations
def test_in_pieces_with_the_state_carried_on_a_sequence_scores_as_the_whole(config):
    """But for what a piece's posterior cannot hear past its end, which is taken away here."""
    model = build(dataclasses.replace(config, auxiliary="none") if config.name == "zforcing" else config)
    deafen(model)
    frames, lengths, noise = sequences(9, 9, model=model)
    noise = noise_for(model, noise)
    whole = model(frames, lengths, noise=noise)
    first = model(frames[:, :5], torch.tensor([5, 5]), noise=noise[:, :4])
    second = model(frames[:, 4:], torch.tensor([5, 5]), state=first.state, noise=noise[:, 4:])
    for name, values in terms_of(whole).items():
        torch.testing.assert_close(torch.cat([getattr(first, name), getattr(second, name)], dim=1), values)
    assert_same_state(second.state, whole.state)


def deafen(model: FrameModel) -> None:
    """Make the posterior ignore what an LSTM has read backward."""
    if model.config.name in ("zforcing", "srnn"):
        hidden = model.config.hidden_size
        heard = slice(hidden, None) if model.config.name == "zforcing" else slice(0, hidden)
        model.posterior.layers[0].weight.data[:, heard] = 0


def test_without_smoothing_srnn_needs_no_later_frame_to_score_a_piece():
    model = build(tiny("srnn", smoothing=False))
    frames, lengths, noise = sequences(9, 9)
    whole = model(frames, lengths, noise=noise)
    first = model(frames[:, :5], torch.tensor([5, 5]), noise=noise[:, :4])
    second = model(frames[:, 4:], torch.tensor([5, 5]), state=first.state, noise=noise[:, 4:])
    for name, values in terms_of(whole).items():
        torch.testing.assert_close(torch.cat([getattr(first, name), getattr(second, name)], dim=1), values)


# What may depend on what


@pytest.mark.parametrize("k", [0, 2, 4, 6])
@pytest.mark.parametrize("name", ["zforcing", "vrnn", "srnn"])
def test_what_the_posterior_knows_of_the_future_ends_where_it_should(name, k):
    model = build(tiny(name))
    frames, lengths, _ = sequences(7)
    changed = frames.clone()
    changed[0, k] += 1.0
    before, after = model.read_future(frames, lengths)[0], model.read_future(changed, lengths)[0]
    moved = (before != after).any(-1)  # [6], step t is to predict x_{t+1}
    if name == "zforcing":  # x_{t+1} and all after it
        assert moved.tolist() == [t < k for t in range(6)]
    elif name == "vrnn":  # x_{t+1} alone
        assert moved.tolist() == [t == k - 1 for t in range(6)]
    else:  # x_{t+1} and all after it, and by d_t all before it
        assert moved.all()


@pytest.mark.parametrize("k", [0, 2, 4, 6])
def test_without_smoothing_srnns_posterior_hears_the_next_frame_and_no_later_one(k):
    model = build(tiny("srnn", smoothing=False))
    frames, lengths, _ = sequences(7)
    changed = frames.clone()
    changed[0, k] += 1.0
    moved = (model.read_future(frames, lengths) != model.read_future(changed, lengths))[0].any(-1)
    assert moved.tolist() == [t >= k - 1 for t in range(6)]


# Gradients

DIFFERENTIATED = {
    **{f"{name} gaussian": tiny(name) for name in ("rnn", "vrnn", "srnn", "sample_ar", "samplernn", "wavenet")},
    "filtering srnn": tiny("srnn", smoothing=False),
    "srnn without residual": tiny("srnn", residual_posterior=False),
    "samplernn discretized": tiny("samplernn", likelihood="logistic_mixture", middle_step=7),
    "rnn mixture": tiny("rnn", likelihood="gaussian_mixture"),
    "vrnn discretized": tiny("vrnn", likelihood="logistic_mixture"),
    "srnn autoregressive": tiny("srnn", head="autoregressive"),
    "rnn dilated": tiny("rnn", head="dilated"),
    **{f"{name} mel": tiny(name, encoder="mel") for name in ("rnn", "vrnn", "srnn", "zforcing")},
    "zforcing pixels": tiny("zforcing", likelihood="bernoulli", backward_reconstruction=True, auxiliary="none"),
    "rnn pixel by pixel": tiny("rnn", likelihood="bernoulli", head="autoregressive", head_window=9),
    "srnn tokens": tiny("srnn", likelihood="categorical", encoder="lookup"),
    "vrnn tokens": tiny("vrnn", likelihood="categorical", encoder="lookup"),
    "rnn, a long window": tiny("rnn", head="autoregressive", head_window=17),
    "vrnn mixture autoregressive": tiny("vrnn", head="autoregressive", likelihood="gaussian_mixture"),
    "zforcing discretized autoregressive": tiny(
        "zforcing", head="autoregressive", likelihood="logistic_mixture", auxiliary="none"
    ),
}


@pytest.mark.parametrize("config", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_gradients_agree_with_finite_differences(config):
    check_gradients(build(config))


# Ablations


@latent_models
def test_without_the_posterior_latents_are_the_priors_and_nothing_hears_the_future(name):
    model = build(tiny(name))
    frames, lengths, noise = sequences(6, 6)
    terms = model(frames, lengths, noise=noise, ablation="posterior")
    assert (terms.kl == 0).all()
    assert (terms.log_latent_ratio == 0).all()
    densities, states = step_through(model, frames, noise)
    scores = [density.log_prob(frames[:, t + 1]) for t, density in enumerate(densities)]
    torch.testing.assert_close(torch.stack(scores, 1), terms.log_likelihood)
    assert_same_state(states[-1], terms.state)


@latent_models
@pytest.mark.parametrize("head", ["factorized", "autoregressive"])
def test_without_the_state_the_latent_stays_and_the_past_is_forgotten(name, head):
    model = build(tiny(name, head=head))
    frames, lengths, noise = sequences(6, 6)
    whole = model(frames, lengths, noise=noise)
    cut = model(frames, lengths, noise=noise, ablation="state")
    assert torch.equal(cut.kl, whole.kl)
    assert torch.equal(cut.latents.drawn, whole.latents.drawn)
    # Z-forcing's first frame has a zero state anyway.
    assert not torch.isclose(cut.log_likelihood, whole.log_likelihood)[:, 1:].any()
    torch.testing.assert_close(cut.log_likelihood, forgetful_scores(model, frames, cut.latents.drawn))


def forgetful_scores(model: FrameModel, frames: Tensor, drawn: Tensor) -> Tensor:
    """log p(x_{t+1}) as it follows from z_t and x_t alone, [batch, steps]: what the docstrings make of no state."""
    scores = []
    for t in range(drawn.shape[1]):
        z, x, nothing = drawn[:, t], frames[:, t], frames.new_zeros(len(frames), model.config.hidden_size)
        if model.config.name == "zforcing":
            start = State(*model.initial_state(len(frames)))
            hidden = model.decoder_cell(model.embed(x), z, start).hidden
            density = model.output.step(hidden, x)
        elif model.config.name == "vrnn":
            density = model.output.step(model.decode(torch.cat([model.cell.gen(z), nothing], -1)), x)
        else:
            density = model.output.step(model.decode(torch.cat([z, nothing], -1)), x)
        scores.append(density.log_prob(frames[:, t + 1]))
    return torch.stack(scores, 1)


def test_an_rnn_without_its_state_predicts_every_frame_alike():
    model = build(tiny("rnn"))
    frames, lengths, _ = sequences(6)
    cut = model(frames, lengths, ablation="state")
    constant = model.output.step(torch.zeros(1, tiny().hidden_size, dtype=torch.float64), frames[:, 0])
    torch.testing.assert_close(cut.log_likelihood[0], constant.log_prob(frames[0, 1:]))


# Bounds


@pytest.mark.parametrize(
    "config", [c for c in COMBINATIONS.values() if c.name in ("rnn", "sample_ar", "samplernn", "wavenet")]
)
def test_without_latents_the_bound_is_the_likelihood(config):
    model = build(config)
    frames, lengths, _ = sequences(6, 4, model=model)
    terms = model(frames, lengths)
    assert model.bound == "exact"
    assert (terms.kl == 0).all()
    assert (terms.log_latent_ratio == 0).all()
    assert torch.equal(terms.elbo, terms.log_likelihood)
    assert model.latent_noise(5).shape == (5, 0)
    assert model.read_future(frames, lengths) is None
    assert torch.equal(model(frames, lengths, noise=torch.empty(2, 5, 0)).log_likelihood, terms.log_likelihood)


@latent_models
def test_with_latents_the_bound_is_an_elbo_of_the_draws(name):
    model = build(tiny(name))
    assert model.bound == "elbo"
    assert model.latent_noise(5).shape == (5, LATENT_SIZE)
    frames, lengths, noise = sequences(6)
    terms = model(frames, lengths, noise=noise)
    prior, posterior, drawn = terms.latents
    torch.testing.assert_close(drawn, posterior.mean + posterior.deviation * noise)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, posterior.deviation),
        torch.distributions.Normal(prior.mean, prior.deviation),
    )
    torch.testing.assert_close(terms.kl, expected.sum(-1))
    assert (terms.kl > 0).all()


@pytest.mark.parametrize("config", [c for c in COMBINATIONS.values() if c.likelihood == "logistic_mixture"])
def test_under_a_discretized_likelihood_a_dequantized_frame_scores_as_its_integers(config):
    model = build(config)
    frames, lengths, noise = sequences(6, 4)
    shift = (torch.rand_like(frames) - 0.5) * 0.999 / 700
    noise = noise_for(model, noise)
    exact, dequantized = model(frames, lengths, noise=noise), model(frames + shift, lengths, noise=noise)
    torch.testing.assert_close(dequantized.log_likelihood, exact.log_likelihood)
    torch.testing.assert_close(dequantized.kl, exact.kl)


# Mistakes and modes


def test_a_sample_predictor_without_its_head_is_a_users_mistake():
    with pytest.raises(UserError, match=r"set model\.head autoregressive"):
        SampleARConfig(head="factorized")


@pytest.mark.parametrize("encoder", ["linear", "mel", "lookup"])
@pytest.mark.parametrize("name", ["rnn", "vrnn", "srnn", "zforcing"])
def test_the_fast_core_computes_what_the_plain_one_does(name, encoder):
    """Ragged lengths, state carried in; float32, where the fast products apply."""
    likelihood = "categorical" if encoder == "lookup" else "gaussian"
    settings = {"encoder": encoder, "likelihood": likelihood}
    models = {core: build(tiny(name, core=core, **settings)).float() for core in ("plain", "fast")}
    frames, lengths, noise = sequences(8, 2, 5, model=models["plain"])
    frames, noise = frames.float(), noise.float()
    models["fast"].load_state_dict(models["plain"].state_dict())
    state = tuple(torch.randn_like(part) for part in models["plain"].initial_state(3))
    outcomes = []
    for model in models.values():
        terms = model(frames, lengths, state, noise_for(model, noise))
        training_loss(terms, Weights(0.7, 0.3, 0.0)).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        outcomes.append([*terms_of(terms).values(), *terms.state, *gradients])
    for ours, theirs in zip(*outcomes, strict=True):
        scale = theirs.abs().max().clamp(min=1)
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=1e-4, atol=1e-5)


@combinations
def test_half_precision_products_leave_densities_in_float32(config):
    model = build(config).float()
    frames, lengths, noise = sequences(4, 3, model=model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model(frames.float(), lengths, noise=noise_for(model, noise).float())
    for values in terms_of(terms).values():
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert all(part.dtype == torch.float32 for part in terms.state)


def test_every_parameter_takes_part_in_training():
    for name, config in COMBINATIONS.items():
        model = build(config)
        frames, lengths, noise = sequences(6, 4, model=model)
        training_loss(model(frames, lengths, noise=noise_for(model, noise)), Weights(1.0, 0.1, 1.0)).backward()
        idle = [key for key, parameter in model.named_parameters() if not (parameter.grad != 0).any()]
        assert idle == [], name


def test_a_discretized_factorized_output_is_a_mixture_for_every_sample():
    model = build(tiny("rnn", likelihood="logistic_mixture", components=4))
    density = model.output.step(torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, FRAME_SIZE))
    assert isinstance(density, LogisticMixture)
    assert density.logits.shape == (2, FRAME_SIZE, 4)
    assert isinstance(model.output.linear, nn.Linear)
