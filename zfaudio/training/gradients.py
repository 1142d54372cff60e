"""The gradients of a training step: forward pass, objective, backward pass and clipping."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zfaudio.models.base import FrameTerms, RecurrentState
from zfaudio.ops.cuda_graph import Recorded, Recorder, record_cuda_graph
from zfaudio.training.objective import Weights, training_loss

# Terms, loss, and the norm of the gradient before clipping.
StepResult = tuple[FrameTerms, Tensor, Tensor]

# (frames, lengths, state, weights) -> terms, loss, and the norm of the gradient before clipping, which is not finite if
# the loss is not. The clipped gradients are left in the parameters.
Gradients = Callable[[Tensor, Tensor, RecurrentState, Weights], StepResult]


def clipped_gradients(
    model: Callable[..., FrameTerms],
    parameters: Sequence[nn.Parameter],
    clip_norm: float,
    backward: Callable[[Tensor], None],
) -> Gradients:
    """A function that computes the clipped gradients of the training loss.

    Args:
        model: computes the terms of a batch.
        parameters: all parameters of the model.
        clip_norm: largest norm of the gradient.
        backward: runs the backward pass from a loss.
    """

    def compute(frames: Tensor, lengths: Tensor, state: RecurrentState, weights: Weights) -> StepResult:
        for parameter in parameters:
            parameter.grad = None
        terms = model(frames, lengths, state)
        loss = training_loss(terms, weights)
        backward(loss)
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
        return terms, loss, norm + 0 * loss.detach()

    return compute


def recorded(gradients: Gradients, record: Recorder[StepResult] = record_cuda_graph) -> Gradients:
    """The same function, launched as one CUDA graph, for batches of one shape. Results are valid until the next call.

    The parameters keep the gradient tensors of the recording, and each replay fills them again.
    """

    def work(frames: Tensor, lengths: Tensor, weights: Tensor, *state: Tensor) -> StepResult:
        return gradients(frames, lengths, state, Weights(*weights.unbind()))

    replayed = Recorded(work, record)

    def compute(frames: Tensor, lengths: Tensor, state: RecurrentState, weights: Weights) -> StepResult:
        as_tensor = torch.tensor(dataclasses.astuple(weights), device=frames.device)
        return replayed(frames, lengths, as_tensor, *state)

    return compute
