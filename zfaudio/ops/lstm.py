"""One-layer LSTMs without latents, whose inputs are all known before the loop.

The fast core multiplies as fast as oneDNN's LSTM, without oneDNN's workspace: at every call glibc takes that memory
from the system and gives it back (about 30,000 page faults per training step at the TIMIT size, 5 % of its time).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zfaudio.ops.cells import State, at_end, initialize_recurrent, lstm_update, zero_state
from zfaudio.ops.gates import gates_for, sum_of
from zfaudio.ops.products import Products, autocast_products, linear_of_embedding
from zfaudio.ops.torch_private import onednn_applies


class LSTM(nn.LSTM):
    """A one-layer nn.LSTM over [batch, steps, input], whose recurrent weight starts orthogonal, as published.

    Args:
        input_size: size of the inputs.
        hidden_size: number of units.
        core: `fast` runs the loop of this file on the CPU; otherwise nn.LSTM computes, which on a GPU is cuDNN's.
    """

    # Whether `run` reads sequences of different lengths padded. nn.LSTM packs them, so that the shapes of its tensors
    # depend on the lengths, and a CUDA graph cannot record it.
    fixed_shapes = False

    def __init__(self, input_size: int, hidden_size: int, core: str) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)
        self.fast = core == "fast"
        initialize_recurrent(self.get_parameter("weight_hh_l0"))

    def read(self, inputs: Tensor, embed: nn.Linear | None = None) -> Tensor:
        """Hidden states [batch, steps, hidden] from a zero state.

        Args:
            inputs: [batch, steps, size].
            embed: applied to the inputs first.
        """
        hidden: Tensor
        if self._fast_applies(inputs) or self._is_autocast_on_cpu(inputs):
            state = zero_state(self.all_weights[0][0], len(inputs), self.hidden_size)
            hidden, _ = self._run_loop(inputs, state, embed)
        else:
            hidden, _ = self(embed(inputs) if embed else inputs)
        return hidden

    def run(
        self, inputs: Tensor, lengths: Tensor, state: State, embed: nn.Linear | None = None
    ) -> tuple[Tensor, State]:
        """Hidden states [batch, steps, hidden] from `state`, and the state after the last step of each sequence.

        Args:
            inputs: [batch, steps, size].
            lengths: number of steps of each sequence, [batch].
            state: state before the first step.
            embed: applied to the inputs first.
        """
        if self._fast_applies(inputs) or self.fixed_shapes:
            hidden, cell = self._run_loop(inputs, state, embed)
            return hidden, State(at_end(hidden, lengths), at_end(cell, lengths))
        embedded = embed(inputs) if embed else inputs
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed_hidden, (last_hidden, last_cell) = self(packed, (state.hidden[None], state.cell[None]))
        hidden, _ = pad_packed_sequence(packed_hidden, batch_first=True, total_length=inputs.shape[1])
        return hidden, State(last_hidden[0], last_cell[0])

    def step(self, inputs: Tensor, state: State) -> State:
        """One step: inputs [batch, input]."""
        input_weight, recurrent_weight, input_bias, recurrent_bias = self.all_weights[0]
        input_sums = F.linear(inputs, input_weight, input_bias)
        return lstm_update(input_sums + F.linear(state.hidden, recurrent_weight, recurrent_bias), state.cell)

    def _fast_applies(self, inputs: Tensor) -> bool:
        return self.fast and bool(inputs.numel()) and onednn_applies(self.all_weights[0][0])

    @staticmethod
    def _is_autocast_on_cpu(inputs: Tensor) -> bool:
        # nn.LSTM computes unpacked sequences by oneDNN, whose LSTM in bfloat16 fails on processors without AVX-512.
        return inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu")

    def _run_loop(self, inputs: Tensor, state: State, embed: nn.Linear | None) -> tuple[Tensor, Tensor]:
        """Hidden and cell states, [batch, steps, hidden] each."""
        input_weight, recurrent_weight, input_bias, recurrent_bias = self.all_weights[0]
        inputs, bias = inputs.transpose(0, 1), input_bias + recurrent_bias
        if embed:
            input_sums = linear_of_embedding(inputs, embed, input_weight, bias)
        else:
            input_sums = F.linear(inputs, input_weight, bias)
        products = autocast_products(recurrent_weight)
        with torch.autocast(inputs.device.type, enabled=False):
            hidden, cell = _LSTM.apply(  # type: ignore[no-untyped-call]
                products, input_sums, recurrent_weight, state.hidden, state.cell
            )
        return hidden[1:].transpose(0, 1), cell.transpose(0, 1)


class _LSTM(torch.autograd.Function):
    """The loop over steps and its gradient. Steps come before the batch in all shapes."""

    @staticmethod
    def forward(
        ctx: Any,
        products: Products,
        input_sums: Tensor,
        recurrent_weight: Tensor,
        first_hidden: Tensor,
        first_cell: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run the loop.

        Args:
            ctx: of the autograd function.
            products: how to multiply.
            input_sums: what the inputs, with the biases, add to the gates, [steps, batch, 4 * hidden].
            recurrent_weight: [4 * hidden, hidden].
            first_hidden: h_0, [batch, hidden].
            first_cell: c_0, [batch, hidden].

        Returns:
            h_0..h_S, [steps + 1, batch, hidden], and c_1..c_S, [steps, batch, hidden].
        """
        gates = input_sums.to(products.result_dtype, copy=True)  # each step replaces its row by activations
        steps, batch, _ = gates.shape
        hidden_size = recurrent_weight.shape[1]
        hidden = gates.new_empty(steps + 1, batch, hidden_size)
        cell = gates.new_empty(steps, batch, hidden_size)
        hidden[0], previous_cell = first_hidden, first_cell
        multiply = products.packed(recurrent_weight)
        elementwise = gates_for(gates)
        for t in range(steps):
            elementwise.lstm_step(gates[t], multiply(hidden[t]), previous_cell, cell[t], hidden[t + 1])
            previous_cell = cell[t]
        ctx.products = products
        ctx.save_for_backward(recurrent_weight, first_cell, gates, hidden, cell)
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from those of its results."""
        products: Products = ctx.products
        recurrent_weight, first_cell, gates, hidden, cell = ctx.saved_tensors
        steps = len(gates)
        multiply = products.packed(recurrent_weight.t())
        d_gates = torch.empty_like(gates)
        d_hidden, d_cell = [d_hidden_all[steps]], torch.zeros_like(first_cell)
        elementwise = gates_for(gates)
        for t in reversed(range(steps)):
            previous_cell = cell[t - 1] if t else first_cell
            d_cell = elementwise.lstm_step_backward(
                d_hidden, (d_cell, d_cell_all[t]), gates[t], previous_cell, cell[t], d_gates[t]
            )
            d_hidden = [multiply(d_gates[t]), d_hidden_all[t]]
        d_recurrent_weight = products.weight_gradient(d_gates.flatten(0, 1), hidden[:-1].flatten(0, 1))
        return None, d_gates, d_recurrent_weight, sum_of(d_hidden), d_cell
