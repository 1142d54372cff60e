"""nn.LSTM for one layer whose inputs are all known: the LSTMs without latents.

The fast way is as fast as oneDNN's own LSTM in its products, but without that one's workspace, which glibc takes from
the system and gives back at every call (about 30,000 page faults a step of training at the TIMIT size, 5 % of it).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zfaudio.ops.cells import State, at_end, initialize_recurrent, lstm_update, zero_state
from zfaudio.ops.embedding import gate_sums
from zfaudio.ops.gates import total
from zfaudio.ops.kernels import gates_for
from zfaudio.ops.products import Products, autocast_products, onednn_applies


class LSTM(nn.LSTM):
    """A one-layer nn.LSTM over [batch, steps, in], its recurrent matrix orthogonal at the start, as published.

    With core `fast` the products on the CPU are those of ops/products.py; else everything is nn.LSTM's, on a GPU
    cuDNN's, except that `read` under autocast on a CPU always runs the loop below. nn.LSTM reads sequences of different lengths packed, in shapes that follow the lengths; with `same_work` the
    loop below reads them padded.
    """

    same_work = False

    def __init__(self, input_size: int, hidden_size: int, core: str) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)
        self.fast = core == "fast"
        initialize_recurrent(self.get_parameter("weight_hh_l0"))

    def read(self, inputs: Tensor, embed: nn.Linear | None = None) -> Tensor:
        """Hidden states [batch, steps, hidden] from a zero state on; for `embed` see `run`."""
        if self._fast_applies(inputs) or self._low_precision_on_cpu(inputs):
            return self._run(inputs, zero_state(self.all_weights[0][0], len(inputs), self.hidden_size), embed)[0]
        return super().forward(embed(inputs) if embed else inputs)[0]  # type: ignore[has-type]

    def run(
        self, inputs: Tensor, lengths: Tensor, state: State, embed: nn.Linear | None = None
    ) -> tuple[Tensor, State]:
        """Hidden states [batch, steps, hidden] from `state` on, and the state after each sequence's own last step.

        Args:
            inputs: [batch, steps, in].
            lengths: steps of each sequence, [batch].
            state: before the first step.
            embed: what inputs pass before they enter.
        """
        if self._fast_applies(inputs) or self.same_work:
            hidden, cell = self._run(inputs, state, embed)
            return hidden, State(at_end(hidden, lengths), at_end(cell, lengths))
        rows = embed(inputs) if embed else inputs
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, ends = super().forward(packed, (state.hidden[None], state.cell[None]))  # type: ignore[has-type]
        padded, _ = pad_packed_sequence(hidden, batch_first=True, total_length=inputs.shape[1])
        return padded, State(*(end[0] for end in ends))

    def step(self, inputs: Tensor, state: State) -> State:
        """One step: inputs [batch, in]."""
        entering, recurrent, *biases = self.all_weights[0]
        return lstm_update(
            F.linear(inputs, entering, biases[0]) + F.linear(state.hidden, recurrent, biases[1]), state.cell
        )

    def _fast_applies(self, inputs: Tensor) -> bool:
        return self.fast and bool(inputs.numel()) and onednn_applies(self.all_weights[0][0])

    @staticmethod
    def _low_precision_on_cpu(inputs: Tensor) -> bool:
        # oneDNN, which computes nn.LSTM's sequences of one length, has LSTMs in bfloat16 only with AVX-512.
        return inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu")

    def _run(self, inputs: Tensor, state: State, embed: nn.Linear | None) -> tuple[Tensor, Tensor]:
        """Hidden and cell states [batch, steps, hidden]."""
        weight, recurrent, *biases = self.all_weights[0]
        rows, bias = inputs.transpose(0, 1), biases[0] + biases[1]
        entering = gate_sums(rows, embed, weight, bias) if embed else F.linear(rows, weight, bias)
        multiply = autocast_products(recurrent)
        with torch.autocast(inputs.device.type, enabled=False):
            hidden, cell = _LSTM.apply(multiply, entering, recurrent, *state)
        return hidden[1:].transpose(0, 1), cell.transpose(0, 1)


class _LSTM(torch.autograd.Function):
    """Time-major: gate sums of the inputs [S, B, 4 H], state [B, H] -> hidden states h_0..h_S [S + 1, B, H] and cell
    states [S, B, H].
    """

    @staticmethod
    def forward(
        ctx: Any, multiply: Products, entering: Tensor, recurrent: Tensor, *state: Tensor
    ) -> tuple[Tensor, Tensor]:
        gates = entering.to(multiply.given, copy=True)  # their activations in the end
        steps, batch, _ = gates.shape
        size = recurrent.shape[1]
        hidden, cell = gates.new_empty(steps + 1, batch, size), gates.new_empty(steps, batch, size)
        hidden[0], before = state
        from_hidden = multiply.packed(recurrent)
        arithmetic = gates_for(gates)
        for t in range(steps):
            arithmetic.lstm_step(gates[t], from_hidden(hidden[t]), before, cell[t], hidden[t + 1])
            before = cell[t]
        ctx.multiply = multiply
        ctx.save_for_backward(recurrent, gates, hidden, cell, state[1])
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor) -> tuple[Tensor | None, ...]:
        multiply: Products = ctx.multiply
        recurrent, gates, hidden, cell, first_cell = ctx.saved_tensors
        steps = len(gates)
        to_hidden = multiply.packed(recurrent.t())
        d_gates = torch.empty_like(gates)
        d_hidden, d_cell = [d_hidden_all[steps]], torch.zeros_like(first_cell)
        arithmetic = gates_for(gates)
        for t in reversed(range(steps)):
            d_cell = arithmetic.lstm_step_backward(
                *(d_hidden, (d_cell, d_cell_all[t]), gates[t]),
                *(cell[t - 1] if t else first_cell, cell[t], d_gates[t]),
            )
            d_hidden = [to_hidden(d_gates[t]), d_hidden_all[t]]
        d_recurrent = multiply.weight_gradient(d_gates.flatten(0, 1), hidden[:-1].flatten(0, 1))
        return None, d_gates, d_recurrent, total(d_hidden), d_cell
