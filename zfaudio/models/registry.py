"""Models by name."""

from zfaudio.config import ModelConfig
from zfaudio.errors import UserError
from zfaudio.models.base import FrameModel
from zfaudio.models.fitting import find_fitting
from zfaudio.observations import Observation
from zfaudio.plugins import find_class

MODELS = {
    "zforcing": "zfaudio.models.zforcing.ZForcing",
    "vrnn": "zfaudio.models.vrnn.VRNN",
    "srnn": "zfaudio.models.srnn.SRNN",
    "rnn": "zfaudio.models.rnn.RNN",
    "sample_ar": "zfaudio.models.sample_ar.SampleAR",
    "wavenet": "zfaudio.models.wavenet.WaveNet",
    "samplernn": "zfaudio.models.samplernn.SampleRNN",
}


def find_model(name: str) -> type[FrameModel]:
    """The model class that `model.name` means: a short name, or an import path such as my_package.MyModel.

    Raises:
        UserError: there is no such model, or the class does not define what a model must.
    """
    return find_class(name, MODELS, FrameModel, "model.name")


def build_model(config: ModelConfig, frame_size: int, observation: Observation) -> FrameModel:
    """The model that `config.name` names, with new weights drawn from torch's generator.

    Args:
        config: settings of the model.
        frame_size: samples per frame.
        observation: what a frame holds; of recordings, where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such model, it or a part of it is not for such frames, or it lacks what it must have.
    """
    model = find_fitting(config.name, MODELS, FrameModel, "model.name", observation)(config, frame_size, observation)
    if not hasattr(model, "frame_noise_size"):
        raise UserError(f"model.name is {config.name!r}, whose __init__ does not set frame_noise_size")
    return model
