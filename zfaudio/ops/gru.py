"""A one-layer GRU whose inputs are all known before the loop, as torch defines it (Cho et al., 2014):

    r, z = sigmoid(input(x_t) + recurrent(h_{t-1}))          two of the three parts
    n = tanh(input(x_t) + r * recurrent(h_{t-1}))            the third
    h_t = (1 - z) * n + z * h_{t-1}

The fast core's gradient computes all slopes at once, so that its loop has four operators and a product. On one core it
takes two thirds of the time of nn.GRU, at 8 sequences of 205 steps and 160 to 256 units.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zfaudio.ops.cells import initialize_recurrent
from zfaudio.ops.linear import Linear
from zfaudio.ops.products import Products, autocast_products


class GRU(nn.Module):
    """A GRU over [batch, steps, input].

    Args:
        input_size: size of the inputs.
        hidden_size: number of units.
        core: `fast` runs the loop of this file; otherwise autograd differentiates single steps.
    """

    def __init__(self, input_size: int, hidden_size: int, core: str) -> None:
        super().__init__()
        self.fast = core == "fast"
        self.input = Linear(input_size, 3 * hidden_size)
        self.recurrent = Linear(hidden_size, 3 * hidden_size)
        initialize_recurrent(self.recurrent.weight)

    def run(self, inputs: Tensor, first: Tensor) -> Tensor:
        """Hidden states of all steps, [batch, steps, hidden], from inputs and h_0 [batch, hidden]."""
        if not self.fast:
            hidden = [first]
            for inputs_t in inputs.unbind(1):
                hidden.append(self.step(inputs_t, hidden[-1]))
            return torch.stack(hidden[1:], 1)
        input_sums, weight = self.input(inputs.transpose(0, 1)), self.recurrent.weight
        products = autocast_products(weight)
        with torch.autocast(inputs.device.type, enabled=False):
            states: Tensor = _GRU.apply(  # type: ignore[no-untyped-call]
                products, input_sums, weight, self.recurrent.bias, first
            )
        return states.transpose(0, 1)

    def step(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """h_t from inputs [batch, input] and h_{t-1} [batch, hidden], in the precision of the latter."""
        reset, update, candidate = self.input(inputs).to(hidden.dtype).chunk(3, dim=-1)
        recurrent_reset, recurrent_update, recurrent = self.recurrent(hidden).to(hidden.dtype).chunk(3, dim=-1)
        update = torch.sigmoid(update + recurrent_update)
        candidate = torch.tanh(candidate + torch.sigmoid(reset + recurrent_reset) * recurrent)
        return torch.lerp(candidate, hidden, update)


class _GRU(torch.autograd.Function):
    """The loop over steps and its gradient. Steps come before the batch in all shapes."""

    @staticmethod
    def forward(
        ctx: Any, products: Products, input_sums: Tensor, weight: Tensor, bias: Tensor, first: Tensor
    ) -> Tensor:
        """Run the loop.

        Args:
            ctx: of the autograd function.
            products: how to multiply.
            input_sums: what the inputs add to the gates, [steps, batch, 3 * hidden].
            weight: recurrent, [3 * hidden, hidden].
            bias: recurrent, [3 * hidden].
            first: h_0, [batch, hidden].

        Returns:
            h_1..h_S, [steps, batch, hidden].
        """
        steps, batch, _ = input_sums.shape
        size = weight.shape[1]
        gates = input_sums.to(products.result_dtype, copy=True)  # each step replaces its row by activations
        gates[..., : 2 * size] += bias[: 2 * size]
        recurrent = gates.new_empty(steps, batch, size)  # what h_{t-1} adds to the candidate before it is reset
        hidden = gates.new_empty(steps + 1, batch, size)
        hidden[0] = first
        multiply = products.packed(weight)
        for gates_t, recurrent_t, previous, hidden_t in zip(gates, recurrent, hidden[:-1], hidden[1:], strict=True):
            reset_and_update, candidate = gates_t[:, : 2 * size], gates_t[:, 2 * size :]
            product = multiply(previous)
            torch.add(product[:, 2 * size :], bias[2 * size :], out=recurrent_t)
            reset_and_update.add_(product[:, : 2 * size]).sigmoid_()
            candidate.addcmul_(reset_and_update[:, :size], recurrent_t).tanh_()
            torch.lerp(candidate, previous, reset_and_update[:, size:], out=hidden_t)
        ctx.products = products
        ctx.save_for_backward(weight, gates, recurrent, hidden)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from that of its result."""
        products: Products = ctx.products
        weight, gates, recurrent, hidden = ctx.saved_tensors
        reset, update, candidate = gates.chunk(3, dim=-1)
        # How h_t changes with the sums of each gate; of the candidate, with what h_{t-1} adds.
        of_candidate = (1 - update) * (1 - candidate.square())
        slopes = torch.stack(
            [
                of_candidate * recurrent * reset * (1 - reset),
                (hidden[:-1] - candidate) * update * (1 - update),
                of_candidate * reset,
            ],
            dim=2,
        )  # [steps, batch, 3, hidden]
        d_sums, d_hidden = torch.empty_like(slopes), torch.empty_like(recurrent)
        multiply = products.packed(weight.t())
        passed_on = torch.zeros_like(hidden[0])
        for t in reversed(range(len(gates))):
            torch.add(d_states[t], passed_on, out=d_hidden[t])
            torch.mul(d_hidden[t].unsqueeze(1), slopes[t], out=d_sums[t])
            passed_on = torch.addcmul(multiply(d_sums[t].flatten(1)), d_hidden[t], update[t])
        rows = d_sums.flatten(0, 1).flatten(1)  # [steps * batch, 3 * hidden]
        d_weight = products.weight_gradient(rows, hidden[:-1].flatten(0, 1))
        d_bias = rows.sum(0)
        d_sums[:, :, 2] = d_hidden * of_candidate
        return None, d_sums.flatten(2), d_weight, d_bias, passed_on
