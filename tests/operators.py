"""A recorder that repeats what a CUDA graph repeats, on the CPU.

It notes every operator below autograd with the very tensors it read and wrote, and runs them again on these tensors:
no Python of the model's, no new memory that another could see. What a graph would miss, it misses too.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operators(TorchDispatchMode):
    """Notes what is computed, to do it again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        # A number of Python's would be the recording's for ever.
        assert operator.overloadpacket != torch.ops.aten._local_scalar_dense, "the CPU asks for a value"
        result = operator(*args, **(kwargs or {}))
        self.seen.append((operator, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, result in self.seen:
            for kept, again in zip(tensors(result), tensors(operator(*args, **kwargs)), strict=True):
                if kept.untyped_storage().data_ptr() != again.untyped_storage().data_ptr():  # else a view, or in place
                    kept.copy_(again)


def tensors(values: object) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [one for value in values for one in tensors(value)] if isinstance(values, (list, tuple)) else []


def record_operators(work: Callable, inputs: tuple[Tensor, ...]) -> tuple[object, Callable[[], None]]:
    draws = torch.get_rng_state()
    operators = Operators()
    with operators:
        result = work(*inputs)
    torch.set_rng_state(draws)
    return result, operators.replay
