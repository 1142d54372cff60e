"""Start a model from the weights of another one."""

from pathlib import Path

from torch import Tensor, nn

from zfaudio.data.manifest import Manifest, check_same_vocabulary, read_manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, read_weights
from zfaudio.experiment.checkpoint_search import checkpoint_step
from zfaudio.text import printable

NAMED = 4  # tensors that are named in the line for the user; the others are counted


def initialize_from(model: nn.Module, source: Path, location: str, manifest: Manifest) -> str:
    """Copy those weights of a checkpoint that fit a model by name, shape and type. All others stay as they are.

    Args:
        model: the model.
        source: a checkpoint, or an experiment, of which the best checkpoint is taken.
        location: path or address of the shards to train on.
        manifest: their manifest.

    Returns:
        A line that says what fitted.

    Raises:
        UserError: there is no checkpoint, nothing in it fits, or its words are others.
    """
    checkpoint = find_checkpoint(source)
    remedy = f"make the shards with the vocabulary that {source} was trained on, or leave train.init_from out"
    before = read_manifest(checkpoint)
    if before.kind == manifest.kind:
        check_same_vocabulary(location, manifest, before, remedy)
    found, own = read_weights(checkpoint), model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in found.items()
        if name in own and (tensor.shape, tensor.dtype) == (own[name].shape, own[name].dtype)
    }
    if not fitting:
        raise UserError(f"train.init_from {source}: none of its {len(found)} tensors fits this model by name and shape")
    model.load_state_dict(fitting, strict=False)
    numbers = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    line = (
        f"weights from {source} (step {checkpoint_step(checkpoint)}): {len(fitting)} of the model's {len(own)} tensors "
        f"fit, {numbers:.1%} of its numbers"
    )
    new = [
        f"{name} ({shape_of(own[name])}" + (f", there {shape_of(found[name])})" if name in found else ")")
        for name in own
        if name not in fitting
    ]
    unused = [printable(name) for name in found if name not in own]
    return line + listed("; newly drawn: ", new) + listed("; not used: ", unused)


def shape_of(tensor: Tensor) -> str:
    """The shape of a tensor as text."""
    return " x ".join(map(str, tensor.shape)) or "scalar"


def listed(title: str, names: list[str]) -> str:
    """A title and some of the names; nothing if there are none."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{title}{', '.join(names[:NAMED])}{more}" if names else ""
