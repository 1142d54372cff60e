"""Work of a GPU that is recorded once and then launched as a whole, as a CUDA graph.

A step of these models is thousands of kernels, most of which take the CPU longer to launch than the GPU to run. A
recording repeats only what happens on the GPU: no Python runs, and no memory is allocated.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
Work = Callable[..., Result]  # its arguments are tensors
# (work, inputs) -> the result of the work, and a function that does the same work again on the same tensors.
Recorder = Callable[[Work[Result], tuple[Tensor, ...]], tuple[Result, Callable[[], None]]]

WARM_UPS = 3  # runs before the recording, in which libraries make plans and Triton compiles


def record_cuda_graph(work: Work[Result], inputs: tuple[Tensor, ...]) -> tuple[Result, Callable[[], None]]:
    """Record what `work` does with `inputs` on the current GPU; the first replay computes the result.

    Afterwards torch's generator for the GPU is where it was before. Every replay draws new random numbers.
    """
    generator_state = torch.cuda.get_rng_state()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.set_rng_state(generator_state)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work(*inputs)
    return result, graph.replay


class Recorded(Generic[Result]):
    """Work that is recorded at its first call and replayed by every call.

    The work must launch the same operators on the same shapes whatever the values of its inputs are, and must not read
    values into Python. Each call overwrites the tensors of the last call's result.
    """

    def __init__(self, work: Work[Result], record: Recorder[Result] = record_cuda_graph) -> None:
        self._work, self._record = work, record
        self._inputs: tuple[Tensor, ...] | None = None

    def __call__(self, *inputs: Tensor) -> Result:
        """The result for these inputs. Raises ValueError if their shapes differ from those of the first call."""
        if self._inputs is None:
            self._inputs = tuple(tensor.detach().clone() for tensor in inputs)
            self._result, self._replay = self._record(self._work, self._inputs)
        for recorded, new in zip(self._inputs, inputs, strict=True):
            if recorded.shape != new.shape:
                raise ValueError(f"recorded with {tuple(recorded.shape)}, called with {tuple(new.shape)}")
            recorded.copy_(new)
        self._replay()
        return self._result
