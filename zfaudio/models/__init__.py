"""Models of sequences of frames, one file each."""

from zfaudio.distributions import Quantiser
from zfaudio.models.base import FrameModel
from zfaudio.models.config import ModelConfig
from zfaudio.models.rnn import RNN
from zfaudio.models.sample_ar import SampleAR
from zfaudio.models.srnn import SRNN
from zfaudio.models.vrnn import VRNN
from zfaudio.models.zforcing import ZForcing

__all__ = ["FrameModel", "ModelConfig", "build_model"]

MODELS = {"zforcing": ZForcing, "rnn": RNN, "vrnn": VRNN, "srnn": SRNN, "sample_ar": SampleAR}


def build_model(config: ModelConfig, frame_size: int, quantiser: Quantiser) -> FrameModel:
    """The model that `config.name` names, freshly initialised from torch's random state.

    Args:
        config: of the model.
        frame_size: samples a frame.
        quantiser: where 16-bit integers lie in the standardised space of the corpus.
    """
    return MODELS[config.name](config, frame_size, quantiser)
