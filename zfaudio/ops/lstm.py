"""nn.LSTM for one layer whose inputs are all known: the fast path's way of stepping, without latents.

As fast as oneDNN's own LSTM in its products, but without that one's workspace, which glibc takes from the system and
gives back at every call (about 30,000 page faults a step of training at the TIMIT size, 5 % of its time).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zfaudio.ops.gates import lstm_step, lstm_step_backward
from zfaudio.ops.products import onednn_applies, packed_product, product, weight_gradient


class LSTM(nn.LSTM):
    """A one-layer nn.LSTM from a zero state whose products on the CPU in float32 are those of ops/products.py.

    Parameters, arguments and results are nn.LSTM's; cases it does not cover go nn.LSTM's way.
    """

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[batch, steps, in] -> hidden states [batch, steps, hidden] and the last state, [1, batch, hidden] each."""
        covered = self.num_layers == 1 and self.bias and self.batch_first and not (self.bidirectional or self.proj_size)
        entering, recurrent, *biases = self.all_weights[0]
        if not (covered and hx is None and onednn_applies(input, entering)) or torch.is_autocast_enabled("cpu"):
            return super().forward(input, hx)  # type: ignore[has-type]
        hidden, cell = _LSTM.apply(input.transpose(0, 1), entering, recurrent, biases[0] + biases[1])
        return hidden.transpose(0, 1), (hidden[-1:], cell[-1:])


class _LSTM(torch.autograd.Function):
    """Time-major: inputs [S, B, I] -> hidden and cell states [S, B, H]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, entering: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        inputs = inputs.contiguous()
        steps, batch, _ = inputs.shape
        size = recurrent.shape[1]
        gates = product(inputs.flatten(0, 1), entering, bias).view(steps, batch, 4 * size)
        hidden, cell = inputs.new_empty(steps, batch, size), inputs.new_empty(steps, batch, size)
        from_hidden = packed_product(recurrent)
        before = inputs.new_zeros(batch, size)
        for t in range(steps):
            if t:
                gates[t].add_(from_hidden(hidden[t - 1]))
            lstm_step(gates[t], before, cell[t], hidden[t])
            before = cell[t]
        ctx.save_for_backward(inputs, entering, recurrent, gates, hidden, cell)
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor) -> tuple[Tensor | None, ...]:
        inputs, entering, recurrent, gates, hidden, cell = ctx.saved_tensors
        steps, batch, _ = inputs.shape
        to_hidden = packed_product(recurrent.t())
        d_gates = torch.empty_like(gates)
        zeros = torch.zeros_like(cell[0])
        d_hidden, d_cell = d_hidden_all[-1], zeros
        for t in reversed(range(steps)):
            d_cell = lstm_step_backward(
                d_hidden, d_cell + d_cell_all[t], gates[t], cell[t - 1] if t else zeros, cell[t], d_gates[t]
            )
            if t:
                d_hidden = to_hidden(d_gates[t]).add_(d_hidden_all[t - 1])
        rows = d_gates.flatten(0, 1)
        return (
            product(rows, entering.t()).view_as(inputs) if ctx.needs_input_grad[0] else None,
            weight_gradient(rows, inputs.flatten(0, 1)),
            weight_gradient(rows[batch:], hidden[:-1].flatten(0, 1)) if steps > 1 else torch.zeros_like(recurrent),
            rows.sum(0),
        )
