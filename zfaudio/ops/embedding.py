"""What frames give the gates of an LSTM through a linear embedding, over all frames at once.

Embedding and input matrix are linear, one after the other: their product is one matrix. It has fewer columns where a
frame has fewer samples than its embedding has units (200 and 512 as published), and a frame takes no gradient. At the
TIMIT size that leaves out an eighth of all that a step of training multiplies.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def gate_sums(frames: Tensor, embed: nn.Linear, weight: Tensor, bias: Tensor) -> Tensor:
    """weight embed(x) + bias of every frame x: frames [..., frame_size] -> [..., 4 * hidden].

    Args:
        frames: of any number.
        embed: frame_size -> embedding.
        weight: [4 * hidden, embedding].
        bias: [4 * hidden].
    """
    if not folding_pays(frames.numel() // frames.shape[-1], embed):
        return F.linear(embed(frames), weight, bias)
    return F.linear(frames, weight @ embed.weight, F.linear(embed.bias, weight, bias))


def folding_pays(frames: int, embed: nn.Linear) -> bool:
    """Whether a step of training on so many frames multiplies less with the two matrices in one.

    For each row of the weight: in one, the frames once forward and once for the weight's gradient, and the folding,
    which has two gradients; apart, the embeddings three times.
    """
    samples, units = embed.in_features, embed.out_features
    return 2 * frames * samples + 3 * samples * units < 3 * frames * units
