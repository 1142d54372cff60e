"""Checks that every model must pass, for models of this package and of others.

A test of your own model:

    def test_my_model():
        check_model(MyConfig(hidden_size=5))

Give small sizes: gradients are compared with finite differences.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zfaudio.config import ModelConfig
from zfaudio.models.base import FrameModel, FrameTerms, RecurrentState
from zfaudio.models.frame_likelihoods import LIKELIHOODS, FrameDistribution, FrameLikelihood
from zfaudio.models.registry import build_model, find_model
from zfaudio.observations import Binary, MuLaw, Observation, Quantizer, Tokens
from zfaudio.plugins import find_class

FRAME_SIZE = 7
QUANTIZER = Quantizer(mean=3.0, deviation=700.0)
VOCABULARY = 6

TERMS = ("log_likelihood", "kl", "log_latent_ratio", "log_auxiliary", "log_backward")


def check_model(config: ModelConfig, frame_size: int = FRAME_SIZE) -> None:
    """Run all checks of this file on a model with random weights in float64.

    Args:
        config: settings of the model, with small sizes; `config.name` names it.
        frame_size: samples per frame.

    Raises:
        AssertionError: the model fails a check; the message says which.
    """
    wanted = find_model(config.name).config_class
    assert type(config) is wanted, f"{config.name} has settings of {wanted.__name__}, not {type(config).__name__}"
    for check in CHECKS:
        check(random_model(config, frame_size))


def random_model(
    config: ModelConfig, frame_size: int = FRAME_SIZE, observation: Observation | None = None
) -> FrameModel:
    """A model in float64 with weights far from their start values, so that biases matter and clamps are reached.

    Args:
        config: settings of the model.
        frame_size: samples or pixels per frame; frames of tokens hold 1.
        observation: what a frame holds; by default what the model's likelihood is for.
    """
    observation = observation_of(config) if observation is None else observation
    torch.manual_seed(0)
    model = build_model(config, 1 if isinstance(observation, Tokens) else frame_size, observation).double()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def observation_of(config: ModelConfig) -> Observation:
    """Frames that the likelihood of a model is for; recordings if it does not say."""
    name = getattr(config, "likelihood", "gaussian")
    content = find_class(name, LIKELIHOODS, FrameLikelihood, "model.likelihood").kinds[0]
    if content == "waveform":
        return QUANTIZER
    if content == "mulaw":
        return MuLaw(QUANTIZER.mean, QUANTIZER.deviation)
    return Binary() if content == "binary" else Tokens(VOCABULARY)


def random_frames(model: FrameModel, *shape: int) -> Tensor:
    """Frames [*shape, frame_size] that the model can score: whole 16-bit steps, levels, pixels or ids."""
    if isinstance(model.observation, Quantizer):
        return model.observation.round(torch.randn(*shape, model.frame_size, dtype=torch.float64))
    values = 2 if isinstance(model.observation, Binary) else model.observation.vocabulary
    return torch.randint(values, (*shape, model.frame_size)).double()


def changed_frames(model: FrameModel, frames: Tensor) -> Tensor:
    """Other frames in place of frames [..., frame_size], different in every value."""
    if isinstance(model.observation, Quantizer):
        return model.observation.round(frames + 1.0)
    values = 2 if isinstance(model.observation, Binary) else model.observation.vocabulary
    return (frames + 1) % values


def random_batch(model: FrameModel, *lengths: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of sequences of these lengths.

    Returns:
        Frames [batch, time, frame_size], see `random_frames`, with large random values on padding; lengths [batch]; and
        noise for the latents, [batch, time - 1, latent].
    """
    torch.manual_seed(seed)
    batch, time = len(lengths), max(lengths)
    frames = random_frames(model, batch, time)
    noise = torch.randn(batch, time - 1, model.latent_noise(1).shape[-1], dtype=torch.float64)
    for row, length in enumerate(lengths):
        frames[row, length:] = 1e6 * torch.randn(time - length, model.frame_size)
    return frames, torch.tensor(lengths), noise


def check_padding(model: FrameModel) -> None:
    """A sequence scores the same alone and in a batch with longer ones; terms on padding are zero."""
    frames, lengths, noise = random_batch(model, 9, 3, 6, 2)
    together = model(frames, lengths, noise=noise)
    for row, length in enumerate(lengths.tolist()):
        own = slice(row, row + 1)
        alone = model(frames[own, :length], lengths[own], noise=noise[own, : length - 1])
        for name, values in terms_of(together).items():
            assert_close(values[row, : length - 1], getattr(alone, name)[0], f"{name} depends on padding")
            assert (values[row, length - 1 :] == 0).all(), f"{name} is not zero on padding"
        for ours, theirs in zip(together.state, alone.state, strict=True):
            assert_close(ours[row], theirs[0], "the state after a sequence depends on padding")


def check_padding_in_gradients(model: FrameModel) -> None:
    """Gradients do not depend on what stands on padding, however large it is."""
    frames, lengths, noise = random_batch(model, 5, 2)
    gradients = []
    for padding in (0.0, 1e30):
        frames[1, 2:] = padding
        model.zero_grad()
        total = sum(terms.sum() for terms in terms_of(model(frames, lengths, noise=noise)).values())
        assert isinstance(total, Tensor)
        total.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for with_zeros, with_large in zip(*gradients, strict=True):
        if with_zeros is not None and with_large is not None:
            assert_close(with_zeros, with_large, "a gradient depends on padding")


def check_steps(model: FrameModel) -> None:
    """Stepping through a sequence with the posterior's latents gives the scores and the state of `forward`."""
    frames, lengths, noise = random_batch(model, 6, 6)
    terms = model(frames, lengths, noise=noise)
    densities, states = step_through(model, frames, noise, model.read_future(frames, lengths))
    scores = [density.log_prob(frames[:, t + 1]) for t, density in enumerate(densities)]
    assert_close(torch.stack(scores, 1), terms.log_likelihood, "step and forward score differently")
    for ours, theirs in zip(states[-1], terms.state, strict=True):
        assert_close(ours, theirs, "step and forward leave another state")


def check_state(model: FrameModel) -> None:
    """With latents from the prior, a sequence in two pieces scores as the whole, if the state is carried along."""
    frames, _, noise = random_batch(model, 9, 9)
    nine, five = torch.tensor([9, 9]), torch.tensor([5, 5])
    whole = model(frames, nine, noise=noise, ablation="posterior")
    first = model(frames[:, :5], five, noise=noise[:, :4], ablation="posterior")
    second = model(frames[:, 4:], five, state=first.state, noise=noise[:, 4:], ablation="posterior")
    pieces = torch.cat([first.log_likelihood, second.log_likelihood], dim=1)
    assert_close(pieces, whole.log_likelihood, "a sequence in pieces scores differently")
    for ours, theirs in zip(second.state, whole.state, strict=True):
        assert_close(ours, theirs, "a sequence in pieces leaves another state")


def check_chunks(model: FrameModel) -> None:
    """A model that reads chunks scores them as the whole sequence."""
    frames, lengths, noise = random_batch(model, 9)
    borders = ((0, 3), (3, 4), (4, 8))
    chunks = [frames[:, first : last + 1] for first, last in borders]
    future_states = model.future_states(chunks)
    if future_states is None:
        return
    whole = terms_of(model(frames, lengths, noise=noise))
    state: RecurrentState | None = None
    parts: dict[str, list[Tensor]] = {name: [] for name in whole}
    for (first, last), chunk, future_state in zip(borders, chunks, future_states, strict=True):
        length = torch.tensor([chunk.shape[1]])
        terms = model(chunk, length, state=state, noise=noise[:, first:last], future_state=future_state)
        state = terms.state
        for name, values in terms_of(terms).items():
            parts[name].append(values)
    for name, values in whole.items():
        assert_close(torch.cat(parts[name], 1), values, f"{name} differs if a sequence is read in chunks")


def check_ablation(model: FrameModel) -> None:
    """Leaving the state out changes the densities of a model that has one."""
    frames, lengths, noise = random_batch(model, 6)
    terms = model(frames, lengths, noise=noise)
    if terms.hidden is not None:
        cut = model(frames, lengths, noise=noise, ablation="state").log_likelihood
        assert not torch.equal(cut, terms.log_likelihood), "ablation 'state' leaves the densities as they are"


def check_causality(model: FrameModel) -> None:
    """With latents from the prior, a frame changes no density of an earlier frame, nor any state before it is read."""
    frames, _, noise = random_batch(model, 7)
    frame_noise = torch.randn(1, model.frame_noise_size, dtype=torch.float64)
    densities, states = step_through(model, frames, noise)
    for k in (1, 3, 5):
        changed = frames.clone()
        changed[0, k] = changed_frames(model, changed[0, k])
        changed_densities, changed_states = step_through(model, changed, noise)
        for t in range(k):  # step t reads frame t
            assert torch.equal(densities[t].log_prob(frames[:, 0]), changed_densities[t].log_prob(frames[:, 0])), (
                f"the density of frame {t + 1} depends on frame {k}"
            )
            assert torch.equal(densities[t].at(frame_noise), changed_densities[t].at(frame_noise)), (
                f"the draw of frame {t + 1} depends on frame {k}"
            )
            assert all(map(torch.equal, states[t], changed_states[t])), f"the state after frame {t} knows frame {k}"


def check_draws(model: FrameModel) -> None:
    """A draw has the shape of a frame, and its density can score it."""
    frames, _, noise = random_batch(model, 3, 3)
    density = step_through(model, frames, noise)[0][-1]
    drawn = density.at(torch.randn(2, model.frame_noise_size, dtype=torch.float64))
    assert drawn.shape == (2, model.frame_size), f"a draw has the shape {tuple(drawn.shape)}"
    score = density.log_prob(drawn)
    assert score.shape == (2,), f"the score of a draw has the shape {tuple(score.shape)}"
    assert torch.isfinite(score).all(), "the score of a draw is not finite"


def check_gradients(model: FrameModel) -> None:
    """Gradients of the bound agree with finite differences."""
    frames, lengths, noise = random_batch(model, 4, 3)
    names = [name for name, _ in model.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        terms = torch.func.functional_call(model, weights, (frames, lengths), {"noise": noise})
        bound: Tensor = terms.log_likelihood - 0.7 * terms.kl  # as if the weight of the KL term were annealed
        return bound.sum()

    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


CHECKS: tuple[Callable[[FrameModel], None], ...] = (
    check_padding,
    check_padding_in_gradients,
    check_steps,
    check_state,
    check_chunks,
    check_ablation,
    check_causality,
    check_draws,
    check_gradients,
)


def terms_of(terms: FrameTerms) -> dict[str, Tensor]:
    """The terms that a model has, by name."""
    return {name: getattr(terms, name) for name in TERMS if getattr(terms, name) is not None}


def step_through(
    model: FrameModel,
    frames: Tensor,
    noise: Tensor,
    future: Tensor | None = None,
    state: RecurrentState | None = None,
) -> tuple[list[FrameDistribution], list[RecurrentState]]:
    """Step over frames [batch, time, frame_size]: the density of each frame after the first, and each state.

    Latents are drawn with `noise` [batch, time - 1, latent], from the posterior if `future` is given.
    """
    state = model.initial_state(len(frames)) if state is None else state
    densities, states = [], []
    for t in range(frames.shape[1] - 1):
        future_t = None if future is None else future[:, t]
        density, state = model.step(frames[:, t], state, future=future_t, noise=noise[:, t])
        densities.append(density)
        states.append(state)
    return densities, states


def assert_close(ours: Tensor, theirs: Tensor, message: str) -> None:
    """Raises AssertionError with a message if two tensors differ by more than rounding."""
    torch.testing.assert_close(ours, theirs, msg=lambda found: f"{message}: {found}")
