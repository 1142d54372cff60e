"""Where to compute."""

from typing import Literal

import torch

from zfaudio.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; auto takes a GPU if there is one. Raises UserError for cuda if there is no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, but torch sees no CUDA GPU here; use cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may compute float32 matrix products in TF32."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
