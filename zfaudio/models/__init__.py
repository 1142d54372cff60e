"""Models of sequences of frames, one file each."""

from zfaudio.models.base import FrameModel
from zfaudio.models.zforcing import ModelConfig, ZForcing

__all__ = ["FrameModel", "ModelConfig", "build_model"]


def build_model(config: ModelConfig, frame_size: int) -> FrameModel:
    """The model that `config.name` names, freshly initialised from torch's random state."""
    return ZForcing(config, frame_size)
