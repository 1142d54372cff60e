"""Matrix products with weights, each by what computes it fastest on the device of its tensors.

On a CPU in float32 and bfloat16, oneDNN is faster than torch.mm, both for large matrices and for few rows times a large
weight. It can also lay a weight out once for many products. torch.mm does so anew at every call, which costs much when
there are only 32 rows. On other devices and in other precisions these are torch's products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.ops.torch_private import linear, packed_product


@dataclass(frozen=True)
class Products:
    """Products without gradients, computed in one precision and returned in another; factors may have either."""

    compute_dtype: torch.dtype
    result_dtype: torch.dtype

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """rows [n, in], weight [out, in], bias [out] -> rows times the transposed weight plus bias, [n, out].

        The tensors may have any strides.
        """
        rows, weight = rows.to(self.compute_dtype), weight.to(self.compute_dtype)
        bias = None if bias is None else bias.to(self.compute_dtype)
        return linear(rows, weight, bias).to(self.result_dtype)

    def packed(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """A function rows [n, in] -> [n, out] for weight [out, in], which it lays out once for all its calls.

        On a GPU it returns the products in `compute_dtype`, because a conversion there is one more kernel.
        """
        weight = weight.to(self.compute_dtype)
        if weight.is_cuda:
            return lambda rows: rows.to(self.compute_dtype) @ weight.t()
        multiply = packed_product(weight)
        return lambda rows: multiply(rows.to(self.compute_dtype)).to(self.result_dtype)

    def weight_gradient(self, grad: Tensor, rows: Tensor) -> Tensor:
        """Gradient of a weight, [out, in], from that of its products, grad [n, out], and their rows [n, in]."""
        # oneDNN would need a transposed copy of grad, which takes most of the time that its faster product saves. Only
        # with full-width AVX-512 (Zen 5) would that shorten a training step noticeably, by an eighth.
        return (grad.to(self.compute_dtype).t() @ rows.to(self.compute_dtype)).to(self.result_dtype)


def autocast_products(weight: Tensor) -> Products:
    """Products returned in the precision of `weight`, and computed in that of autocast if it is on for its device."""
    device = weight.device.type
    low = torch.is_autocast_enabled(device)
    return Products(torch.get_autocast_dtype(device) if low else weight.dtype, result_dtype=weight.dtype)


def packed_weight(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A function rows [n, in] -> [n, out] for weight [out, in], computed in autocast's precision if it is on."""
    products = autocast_products(weight)
    multiply = products.packed(weight)
    return lambda rows: multiply(rows).to(products.result_dtype)


def packed_linear(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The layer as a function [n, in] -> [n, out], with its weights as they are now and without gradients.

    It computes in autocast's precision if that is on.
    """
    multiply = packed_weight(layer.weight.detach())
    if layer.bias is None:
        return multiply
    bias = layer.bias.detach()
    return lambda rows: multiply(rows).add_(bias)


def linear_of_embedding(frames: Tensor, embed: nn.Linear, weight: Tensor, bias: Tensor) -> Tensor:
    """weight embed(x) + bias for each frame x, [..., out].

    The embedding and the weight are both linear. Where `merging_pays`, they are multiplied into one matrix first. At
    the TIMIT size this saves an eighth of all multiplications of a training step.

    Args:
        frames: [..., frame_size].
        embed: frame_size -> embedding.
        weight: [out, embedding].
        bias: [out].
    """
    if not merging_pays(frames.numel() // frames.shape[-1], embed, frames.requires_grad):
        return F.linear(embed(frames), weight, bias)
    return F.linear(frames, weight @ embed.weight, F.linear(embed.bias, weight, bias))


def merging_pays(frames: int, embed: nn.Linear, frames_need_gradient: bool = False) -> bool:
    """Whether a training step on this number of frames multiplies less if `linear_of_embedding` merges its matrices.

    Counted for each row of the weight. Merged: each frame once forward and once for the gradient of the merged matrix
    (and once more if frames need a gradient, as features of an encoder do), and the merging itself forward and for its
    two gradients. Apart: each embedding three times.
    """
    frame_size, embedding_size = embed.in_features, embed.out_features
    return (
        2 + frames_need_gradient
    ) * frames * frame_size + 3 * frame_size * embedding_size < 3 * frames * embedding_size
