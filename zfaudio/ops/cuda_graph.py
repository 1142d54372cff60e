"""Work of a GPU that is recorded once and then launched whole, as a CUDA graph.

A step of the models here is thousands of kernels, each of which takes the GPU less time than launching it takes the
CPU. Of a recording only what happens on the GPU is repeated: no Python, no new memory.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
Work = Callable[..., Result]  # of tensors
# Gives what the work gives for these inputs, and a function that does it all again, on the same tensors.
Recorder = Callable[[Work[Result], tuple[Tensor, ...]], tuple[Result, Callable[[], None]]]

WARM_UPS = 3  # runs before the recording: libraries make their plans, Triton compiles


def record_cuda_graph(work: Work[Result], inputs: tuple[Tensor, ...]) -> tuple[Result, Callable[[], None]]:
    """Record what `work` does with `inputs` on the current GPU; the result is filled by the first replay.

    torch's generator for the GPU stands afterwards where it stood before: the recording draws anew at every replay.
    """
    draws = torch.cuda.get_rng_state()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work(*inputs)
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.set_rng_state(draws)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work(*inputs)
    return result, graph.replay


class Recorded(Generic[Result]):
    """Work that does the same whatever its inputs' values: no shape, branch or number of Python's comes of them.

    The tensors of a result hold it until the next call, which overwrites them.
    """

    def __init__(self, work: Work[Result], record: Recorder[Result] = record_cuda_graph) -> None:
        self._work, self._record = work, record
        self._inputs: tuple[Tensor, ...] | None = None

    def __call__(self, *inputs: Tensor) -> Result:
        """The result for inputs of the shapes of the first call's. Raises ValueError for others."""
        if self._inputs is None:
            self._inputs = tuple(one.detach().clone() for one in inputs)
            self._result, self._replay = self._record(self._work, self._inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept.shape != given.shape:
                raise ValueError(f"recorded with {tuple(kept.shape)}, called with {tuple(given.shape)}")
            kept.copy_(given)
        self._replay()
        return self._result
