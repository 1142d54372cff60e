"""The recurrent states, and the decoder's LSTM cells: (embedded frame, latents, state) -> next state."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.ops.networks import ClampedLeakyReLU

GAIN_LIMIT = 3.0  # published clamp of the gain and bias of the conditional layer norm


class State(NamedTuple):
    """State of an LSTM."""

    hidden: Tensor  # [batch, hidden]
    cell: Tensor  # [batch, hidden]


class LatentState(NamedTuple):
    """State of an LSTM, and the latents of the last step."""

    hidden: Tensor  # [batch, hidden]
    cell: Tensor  # [batch, hidden]
    latents: Tensor  # [batch, latent]


def zero_state(weight: Tensor, batch_size: int, hidden_size: int) -> State:
    """The state before a recording, in the precision and on the device of `weight`."""
    zeros = weight.new_zeros(batch_size, hidden_size)
    return State(zeros, zeros)


def at_end(values: Tensor, lengths: Tensor) -> Tensor:
    """The values of each sequence's last step: values [batch, steps, size], lengths [batch] -> [batch, size]."""
    return torch.take_along_dim(values, (lengths - 1).view(-1, 1, 1), dim=1).squeeze(1)


def lstm_update(gate_sums: Tensor, cell: Tensor) -> State:
    """The elementwise part of an LSTM step, in the precision of `cell`.

    Args:
        gate_sums: arguments of the input, forget, cell and output gates, [batch, 4 * hidden].
        cell: c_{t-1}, [batch, hidden].
    """
    input_gate, forget_gate, cell_gate, output_gate = gate_sums.to(cell.dtype).chunk(4, dim=-1)
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(cell_gate)
    return State(torch.sigmoid(output_gate) * torch.tanh(cell), cell)


def initialize_recurrent(weight: Tensor) -> None:
    """Initialize a recurrent weight [4 * hidden, hidden] as an orthogonal matrix, as published."""
    if not weight.is_meta:  # where there is nothing to fill, and torch would load its compiler to find that out
        nn.init.orthogonal_(weight)


class LatentLSTMCell(nn.Module):
    """h_t = LSTM([embed(x_t), gen(z_t)], h_{t-1}), where gen is linear."""

    def __init__(self, embedding_size: int, latent_size: int, mlp_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gen = nn.Linear(latent_size, mlp_size)
        self.input = nn.Linear(embedding_size + mlp_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        initialize_recurrent(self.recurrent.weight)

    def merged_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The input layer with gen merged into it, which is possible because gen is linear.

        Returns:
            Weight of the embedded frame, [4 * hidden, embedding].
            Weight of the latents, [4 * hidden, latent].
            Bias, [4 * hidden].
        """
        gen_size = self.gen.out_features
        embedding_weight, gen_weight = self.input.weight.split([self.input.in_features - gen_size, gen_size], dim=1)
        return embedding_weight, gen_weight @ self.gen.weight, self.input.bias + gen_weight @ self.gen.bias

    def forward(self, embedded: Tensor, latents: Tensor, state: State) -> State:
        """Embedded frame [batch, embedding], latents [batch, latent] and the state h_{t-1} -> the state h_t."""
        input_sums = self.input(torch.cat([embedded, self.gen(latents)], dim=-1))
        return lstm_update(input_sums + self.recurrent(state.hidden), state.cell)


class ConditionalNormLSTMCell(nn.Module):
    """Published variant: z_t sets the gain and bias of a layer norm of the recurrent sums."""

    def __init__(self, embedding_size: int, latent_size: int, mlp_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gen = nn.Sequential(
            nn.Linear(latent_size, mlp_size), ClampedLeakyReLU(), nn.Linear(mlp_size, 8 * hidden_size)
        )
        self.input = nn.Linear(embedding_size, 4 * hidden_size, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        initialize_recurrent(self.recurrent.weight)

    def forward(self, embedded: Tensor, latents: Tensor, state: State) -> State:
        """Embedded frame [batch, embedding], latents [batch, latent] and the state h_{t-1} -> the state h_t."""
        gain, bias = self.gen(latents).clamp(-GAIN_LIMIT, GAIN_LIMIT).chunk(2, dim=-1)  # [batch, 4 * hidden] each
        recurrent_sums = self.recurrent(state.hidden)
        normalized = F.layer_norm(recurrent_sums, recurrent_sums.shape[-1:])
        return lstm_update(self.input_norm(self.input(embedded)) + (1 + gain) * normalized + bias, state.cell)
