"""Paths of latents: read from a recording, a picture or a sentence, mixed, and decoded."""

import inspect
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.config import DataConfig
from zfaudio.data.batches import FrameWriter, LongUtterance
from zfaudio.data.frames import to_frames
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError
from zfaudio.generation.sampling import device_of, zero_frame
from zfaudio.generation.sequences import Values
from zfaudio.models import FrameModel
from zfaudio.seeds import cpu_generator


def require_latents(model: FrameModel) -> None:
    """Raises UserError if a model has no latents, or cannot be given any."""
    name = model.config.name
    if not model.latent_size:
        raise UserError(f"{name} has no latents to interpolate between; zforcing, vrnn and srnn have")
    if "latents" not in inspect.signature(model.step).parameters:
        raise UserError(f"{name}: its method `step` has no argument `latents`, which interpolation needs")


@torch.inference_mode()
def read_latents(model: FrameModel, manifest: Manifest, values: Values) -> Tensor:
    """The means of the posterior of z_1, z_2, ... along a sequence, [frames, latent].

    Each z_t is that of a decoder which has read the frames before it as they are.

    Args:
        model: the model, in evaluation mode.
        manifest: of the shards that the model was trained on.
        values: whole frames of samples, pixels or ids, [n].
    """
    frames = to_frames(values, manifest.frame_size)
    writer = FrameWriter(manifest, DataConfig(dequantize=False, score_first_frame=True))
    source = LongUtterance(FramedUtterance("", "", 0.0, frames.size, frames), writer, manifest.frame_size, 0)
    device = device_of(model)
    noise = torch.zeros(1, len(frames), model.latent_size, device=device)
    terms = model(source.part(0, len(frames) + 1).to(device), source.lengths.to(device), noise=noise)
    drawn: Tensor = terms.latents.drawn[0]
    return drawn


def mix(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Paths from one to another in equal steps, with both at the ends: [steps, frames, latent].

    Args:
        first: [frames, latent].
        last: [frames, latent]; the shorter of the two is stretched in time to the length of the other.
        steps: number of paths, at least two.
    """
    length = max(len(first), len(last))
    first, last = stretch(first, length), stretch(last, length)
    weights = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1)
    return torch.lerp(first, last, weights)


def stretch(path: Tensor, length: int) -> Tensor:
    """A path [frames, latent] at `length` moments, linearly between its frames: [length, latent]."""
    if len(path) == length:
        return path
    stretched: Tensor = F.interpolate(path.t().unsqueeze(0), length, mode="linear", align_corners=True)[0].t()
    return stretched


@torch.inference_mode()
def decode(model: FrameModel, paths: Tensor, temperature: float, seed: int) -> Iterator[Tensor]:
    """Generate frames [paths, frame_size] whose latents are given. The decoder reads the frames that it generated.

    Args:
        model: the model, in evaluation mode.
        paths: z_t of each, [paths, frames, latent].
        temperature: of the frames; 0 takes what is most probable.
        seed: of the frames' noise, which is the same for all paths.
    """
    count = len(paths)
    frame, state = zero_frame(model, count), model.initial_state(count)
    generator = cpu_generator(seed, "interpolation", 0)
    for latents in paths.unbind(1):
        density, state = model.step(frame, state, latents=latents)
        noise = torch.randn(model.frame_noise_size, generator=generator).to(frame.device)
        frame = density.at(noise.expand(count, -1), temperature)
        yield frame
