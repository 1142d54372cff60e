"""A recorder for the CPU that repeats what a CUDA graph repeats.

It records each operator below autograd together with the tensors that it read and wrote, and runs them again on the
same tensors, without the model's Python and without new memory. What a CUDA graph would miss, it misses too.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operators(TorchDispatchMode):
    """Records operators, to run them again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        # A value read into Python would stay the recording's value forever.
        assert operator.overloadpacket != torch.ops.aten._local_scalar_dense, "the CPU asks for a value"
        result = operator(*args, **(kwargs or {}))
        self.seen.append((operator, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, result in self.seen:
            for recorded, new in zip(tensors(result), tensors(operator(*args, **kwargs)), strict=True):
                if recorded.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():  # else a view or in place
                    recorded.copy_(new)


def tensors(values: object) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in tensors(value)] if isinstance(values, (list, tuple)) else []


def record_operators(work: Callable, inputs: tuple[Tensor, ...]) -> tuple[object, Callable[[], None]]:
    generator_state = torch.get_rng_state()
    operators = Operators()
    with operators:
        result = work(*inputs)
    torch.set_rng_state(generator_state)
    return result, operators.replay
