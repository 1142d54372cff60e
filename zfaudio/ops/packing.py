"""A model for many steps of generation: its weights as they are now, laid out once for products of few rows."""

import copy

import torch
from torch import Tensor, nn

from zfaudio.ops.cells import State, lstm_update
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.products import packed_linear, packed_weight

# Weights of a layer that gains by it; the many small products of the autoregressive head do not.
LARGE = 1 << 16


def packed(module: nn.Module) -> nn.Module:
    """A copy whose large linear layers and whose LSTMs, in single steps, are those of this file.

    Later changes to their weights do not reach it, and no gradient passes through it. Under autocast its products are
    less precise.
    """
    if isinstance(module, nn.Linear):
        return PackedLinear(module) if module.weight.numel() >= LARGE else module
    if isinstance(module, LSTM):
        return PackedLSTM(module)
    twin = copy.copy(module)  # weights are not copied
    twin._modules = {name: packed(child) for name, child in module.named_children()}
    return twin


class PackedLinear(nn.Module):
    """nn.Linear on [..., in]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.multiply = packed_linear(linear)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self.multiply(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1])


class PackedLSTM(nn.Module):
    """`LSTM.step` with one product for what enters and the state before."""

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        entering, recurrent, *biases = (weight.detach() for weight in lstm.all_weights[0])
        self.multiply = packed_weight(torch.cat([entering, recurrent], dim=1))
        self.bias = biases[0] + biases[1]

    def step(self, inputs: Tensor, state: State) -> State:
        """One step: inputs [batch, in]."""
        sums = self.multiply(torch.cat([inputs, state.hidden], dim=-1))
        return lstm_update(sums + self.bias, state.cell)
