"""Models of sequences of frames, one file each."""

from zfaudio.distributions import Quantizer
from zfaudio.models.base import FrameModel
from zfaudio.models.config import ModelConfig
from zfaudio.models.rnn import RNN
from zfaudio.models.sample_ar import SampleAR
from zfaudio.models.srnn import SRNN
from zfaudio.models.vrnn import VRNN
from zfaudio.models.zforcing import ZForcing

__all__ = ["FrameModel", "ModelConfig", "build_model"]

MODELS = {"zforcing": ZForcing, "rnn": RNN, "vrnn": VRNN, "srnn": SRNN, "sample_ar": SampleAR}


def build_model(config: ModelConfig, frame_size: int, quantizer: Quantizer) -> FrameModel:
    """The model that `config.name` names, freshly initialized from torch's random state.

    Args:
        config: of the model.
        frame_size: samples a frame.
        quantizer: where 16-bit integers lie in the standardized space of the corpus.
    """
    return MODELS[config.name](config, frame_size, quantizer)
