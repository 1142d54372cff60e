"""A model for many steps of generation: its weights as they are now, laid out once for products of few rows."""

import copy

import torch
from torch import Tensor, nn

from zfaudio.ops.cells import State, lstm_update
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.products import packed_linear, packed_weight

MIN_PACKED_WEIGHTS = 1 << 16  # smaller layers do not gain by it, for example those of the autoregressive head


def packed(module: nn.Module) -> nn.Module:
    """A copy of the module with packed versions of its large linear layers, and of its LSTMs for single steps.

    The packed layers compute with the weights as they are now: do not use them after the weights have changed. No
    gradient passes through them. Under autocast their products are computed in lower precision.
    """
    weights = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return _pack(copy.deepcopy(module, memo=weights))  # the weights themselves are not copied


def _pack(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Linear):
        return PackedLinear(module) if module.weight.numel() >= MIN_PACKED_WEIGHTS else module
    if isinstance(module, LSTM):
        return PackedLSTM(module)
    for name, child in module.named_children():
        setattr(module, name, _pack(child))
    return module


class PackedLinear(nn.Module):
    """nn.Linear; its weight and bias are there too, because loops read them, but no gradient passes through them."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.multiply = packed_linear(layer)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        outputs: Tensor = self.multiply(inputs.flatten(0, -2)).unflatten(0, inputs.shape[:-1])
        return outputs


class PackedLSTM(nn.Module):
    """`LSTM.step` with one product for the inputs and h_{t-1} together."""

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        input_weight, recurrent_weight, input_bias, recurrent_bias = (weight.detach() for weight in lstm.all_weights[0])
        self.multiply = packed_weight(torch.cat([input_weight, recurrent_weight], dim=1))
        self.bias = input_bias + recurrent_bias

    def step(self, inputs: Tensor, state: State) -> State:
        """One step: inputs [batch, input]."""
        gate_sums = self.multiply(torch.cat([inputs, state.hidden], dim=-1))
        return lstm_update(gate_sums + self.bias, state.cell)
