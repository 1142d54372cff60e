"""One step of the decoder: (embedded frame, latent, state) -> state."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.ops.networks import ClampedLeakyReLU

GAIN_LIMIT = 3.0  # published clamp of gain and bias of the conditional layer norm


class State(NamedTuple):
    """Recurrent state of the decoder LSTM, one row a sequence."""

    hidden: Tensor  # [batch, hidden]
    cell: Tensor  # [batch, hidden]


class LatentState(NamedTuple):
    """Recurrent state of an LSTM and the last latent, one row a sequence."""

    hidden: Tensor  # [batch, hidden]
    cell: Tensor  # [batch, hidden]
    latent: Tensor  # [batch, latent]


def zero_state(like: Tensor, rows: int, hidden_size: int) -> State:
    """The state before a recording, in the precision and on the device of `like`."""
    zeros = like.new_zeros(rows, hidden_size)
    return State(zeros, zeros)


def at_end(values: Tensor, steps: Tensor) -> Tensor:
    """What each sequence's own last step left: values [batch, steps, size], steps [batch] -> [batch, size]."""
    return torch.take_along_dim(values, (steps - 1).view(-1, 1, 1), dim=1).squeeze(1)


def lstm_update(gates: Tensor, cell: Tensor) -> State:
    """LSTM arithmetic on gate sums [batch, 4 * hidden] (input, forget, cell, output), kept in float32 or better."""
    gates = gates.to(cell.dtype)
    enter, forget, candidate, leave = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return State(torch.sigmoid(leave) * torch.tanh(cell), cell)


def initialize_recurrent(weight: Tensor) -> None:
    """Orthogonal start for a recurrent matrix [4 * hidden, hidden], as published."""
    nn.init.orthogonal_(weight)


class LatentLSTMCell(nn.Module):
    """h_t = LSTM([embed(x_t), gen(z_t)], h_{t-1}), gen a linear map."""

    def __init__(self, embedding_size: int, latent_size: int, mlp_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gen = nn.Linear(latent_size, mlp_size)
        self.input = nn.Linear(embedding_size + mlp_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        initialize_recurrent(self.recurrent.weight)

    def folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """The input matrix with gen, which is linear, folded in.

        Its part for embed(x_t) [4 * hidden, embedding], that for z_t [4 * hidden, latent], its bias [4 * hidden].
        """
        gen = self.gen.out_features
        to_embedded, to_gen = self.input.weight.split([self.input.in_features - gen, gen], dim=1)
        return to_embedded, to_gen @ self.gen.weight, self.input.bias + to_gen @ self.gen.bias

    def forward(self, embedded: Tensor, latent: Tensor, state: State) -> State:
        """Embedded frame [batch, embedding], latent [batch, latent] and state before -> state after."""
        entering = self.input(torch.cat([embedded, self.gen(latent)], dim=-1))
        return lstm_update(entering + self.recurrent(state.hidden), state.cell)


class ConditionalNormLSTMCell(nn.Module):
    """Published variant: z_t enters as gain and bias of the layer norm over the recurrent gate sums."""

    def __init__(self, embedding_size: int, latent_size: int, mlp_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gen = nn.Sequential(
            nn.Linear(latent_size, mlp_size), ClampedLeakyReLU(), nn.Linear(mlp_size, 8 * hidden_size)
        )
        self.input = nn.Linear(embedding_size, 4 * hidden_size, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        initialize_recurrent(self.recurrent.weight)

    def forward(self, embedded: Tensor, latent: Tensor, state: State) -> State:
        """Embedded frame [batch, embedding], latent [batch, latent] and state before -> state after."""
        gain, bias = self.gen(latent).clamp(-GAIN_LIMIT, GAIN_LIMIT).chunk(2, dim=-1)  # [batch, 4 * hidden] each
        recurrent = self.recurrent(state.hidden)
        normalized = F.layer_norm(recurrent, recurrent.shape[-1:])
        return lstm_update(self.input_norm(self.input(embedded)) + (1 + gain) * normalized + bias, state.cell)
