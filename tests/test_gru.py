"""The GRU's loop: that it is torch's GRU, and that its gradient is autograd's."""

import pytest
import torch
from torch import nn

from zfaudio.ops.gru import GRU

BATCH, STEPS, INPUT, HIDDEN = 3, 7, 5, 4


def build(core: str, dtype: torch.dtype = torch.float64) -> GRU:
    torch.manual_seed(0)
    return GRU(INPUT, HIDDEN, core).to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    values = torch.randn(BATCH, STEPS, INPUT, dtype=dtype), torch.randn(BATCH, HIDDEN, dtype=dtype)
    return tuple(value.requires_grad_() for value in values)


@pytest.mark.parametrize("core", ["plain", "fast"])
def test_it_is_the_gru_of_torch(core):
    gru, (read, first) = build(core), inputs()
    theirs = nn.GRU(INPUT, HIDDEN, batch_first=True).double()
    theirs.load_state_dict(
        {
            "weight_ih_l0": gru.input.weight,
            "weight_hh_l0": gru.recurrent.weight,
            "bias_ih_l0": gru.input.bias,
            "bias_hh_l0": gru.recurrent.bias,
        }
    )
    torch.testing.assert_close(gru.run(read, first), theirs(read, first[None])[0])


def test_a_step_is_that_of_the_loop():
    gru, (read, hidden) = build("fast"), inputs()
    states = gru.run(read, hidden)
    for read_t, state in zip(read.unbind(1), states.unbind(1), strict=True):
        hidden = gru.step(read_t, hidden)
        torch.testing.assert_close(hidden, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_those_of_autograd(dtype):
    gradients = []
    for core in ("plain", "fast"):
        gru, (read, first) = build(core, dtype), inputs(dtype)
        states = gru.run(read, first)
        weights = torch.linspace(-1, 1, states.numel(), dtype=dtype).view_as(states)
        gradients.append(torch.autograd.grad((weights * states).sum(), [read, first, *gru.parameters()]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16_products_leave_states_and_gradients_in_float32():
    gru, (read, first) = build("fast", torch.float32), inputs(torch.float32)
    exact = gru.run(read, first)
    with torch.autocast("cpu", torch.bfloat16):
        states = gru.run(read, first)
        stepped = gru.step(read[:, 0], first)
    states.sum().backward()
    assert states.dtype == stepped.dtype == first.grad.dtype == torch.float32
    assert (states - exact).abs().max() < 0.02
    assert not torch.equal(states, exact)
