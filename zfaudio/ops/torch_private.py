"""Functions of torch that it does not document, each with a documented fallback.

They were last seen in torch 2.11. If one is missing, or if this processor cannot run it, the fallback gives the same
results, only more slowly. No other file of zfaudio uses undocumented functions of torch.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _find(namespace: Any, *names: str) -> Any:
    """namespace.name.name..., or None if this version of torch does not have it."""
    for name in names:
        namespace = getattr(namespace, name, None)
    return namespace


# oneDNN's linear layer without a gradient, and the layout in which it multiplies fastest by a weight.
_ONEDNN_LINEAR = _find(torch.ops.mkldnn, "_linear_pointwise")
_ONEDNN_LAYOUT = _find(torch.ops.mkldnn, "_reorder_linear_weight")
# The same for convolutions.
_ONEDNN_CONVOLUTION = _find(torch.ops.mkldnn, "_convolution_pointwise")
_ONEDNN_CONVOLUTION_LAYOUT = _find(torch.ops.mkldnn, "_reorder_convolution_weight")
# Gradients of activations, from what the activations gave, written to a given tensor.
_SIGMOID_BACKWARD = _find(torch.ops.aten, "sigmoid_backward", "grad_input")
_TANH_BACKWARD = _find(torch.ops.aten, "tanh_backward", "grad_input")
_LEAKY_RELU_BACKWARD = _find(torch.ops.aten, "leaky_relu_backward", "grad_input")


def onednn_applies(*tensors: Tensor) -> bool:
    """Whether `linear` and `packed_product` multiply these tensors, all of one precision, by oneDNN."""
    return torch.backends.mkldnn.is_available() and all(
        tensor.device.type == "cpu" and tensor.numel() and onednn_multiplies(tensor.dtype) for tensor in tensors
    )


@cache
def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in this precision on this processor: bfloat16 needs AVX-512, for example."""
    if dtype not in (torch.float32, torch.bfloat16) or _ONEDNN_LINEAR is None or _ONEDNN_LAYOUT is None:
        return False
    tensor = torch.ones(1, 1, dtype=dtype)
    try:
        _ONEDNN_LINEAR(tensor, _ONEDNN_LAYOUT(tensor), None, "none", [], "")
    except RuntimeError:
        return False
    return True


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear(rows, weight, bias) of matrices with any strides, without a gradient."""
    if not onednn_applies(rows, weight):
        return F.linear(rows, weight, bias)
    # A weight cut out of a wider one would go to oneDNN's reference kernel, which takes a thousand times as long as
    # this copy.
    if weight.stride(1) == 1:
        weight = weight.contiguous()
    elif not weight.t().is_contiguous():
        weight = weight.t().contiguous().t()
    result: Tensor = _ONEDNN_LINEAR(rows, weight, bias, "none", [], "")
    return result


def packed_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that computes F.linear(rows, weight) without a gradient and lays the weight out once for all calls."""
    if not onednn_applies(weight):
        return lambda rows: F.linear(rows, weight)
    if weight.dtype == torch.float32 and convolution_is_faster():
        return _convolution_by(weight)
    # Without the number of rows, oneDNN 3.10 chooses a layout that is twice as fast for 32 rows as the one that it
    # chooses when the number is given.
    laid_out = _ONEDNN_LAYOUT(weight)

    def multiply(rows: Tensor) -> Tensor:
        result: Tensor = _ONEDNN_LINEAR(rows, laid_out, None, "none", [], "")
        return result

    return multiply


@cache
def convolution_is_faster() -> bool:
    """Whether oneDNN multiplies few rows by a laid-out weight faster as a convolution, in float32.

    Without AVX-512, oneDNN 3.10 lays out weights for convolutions only. Its linear layer packs the weight again at each
    call, which is a fifth of the time for 32 rows and nearly half of it for 2 rows.
    """
    if _ONEDNN_CONVOLUTION is None or _ONEDNN_CONVOLUTION_LAYOUT is None:
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return False
    try:
        _convolution_by(torch.ones(1, 1))(torch.ones(1, 1))
    except RuntimeError:
        return False
    return True


def _convolution_by(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """`packed_product` as a 1 x 1 convolution of an image whose pixels are the rows, all beside each other."""
    out_size, in_size = weight.shape
    kernel = weight.contiguous()[:, :, None, None]
    layouts: dict[int, Tensor] = {}  # by the number of rows, on which oneDNN's layout depends; only the last is kept
    padding, stride, dilation, groups = [0, 0], [1, 1], [1, 1], 1

    def multiply(rows: Tensor) -> Tensor:
        count = len(rows)
        if count not in layouts:
            layouts.clear()
            size = [1, in_size, 1, count]
            layouts[count] = _ONEDNN_CONVOLUTION_LAYOUT(kernel, padding, stride, dilation, groups, size)
        image = rows.contiguous().view(1, 1, count, in_size).permute(0, 3, 1, 2)
        result: Tensor = _ONEDNN_CONVOLUTION(
            image, layouts[count], None, padding, stride, dilation, groups, "none", [], ""
        )
        return result.permute(0, 2, 3, 1).reshape(count, out_size)

    return multiply


def sigmoid_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient of a sigmoid's argument from that of its value, written to `out`, which may be `grad`."""
    if _SIGMOID_BACKWARD is None:
        torch.mul(grad, (1 - activation) * activation, out=out)
    else:
        _SIGMOID_BACKWARD(grad, activation, grad_input=out)


def tanh_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient of a tanh's argument from that of its value, written to `out`, which may be `grad`."""
    if _TANH_BACKWARD is None:
        torch.mul(grad, 1 - activation * activation, out=out)
    else:
        _TANH_BACKWARD(grad, activation, grad_input=out)


def leaky_relu_backward(grad: Tensor, activation: Tensor, slope: float, out: Tensor) -> None:
    """Gradient of a leaky ReLU's argument from that of its value, written to `out`."""
    if _LEAKY_RELU_BACKWARD is None:
        grad = grad.to(out.dtype)
        torch.where(activation > 0, grad, slope * grad, out=out)
    else:
        _LEAKY_RELU_BACKWARD(grad, activation, slope, True, grad_input=out)
