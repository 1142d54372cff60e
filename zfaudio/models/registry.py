"""Models by name."""

from zfaudio.config import ModelConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models.base import FrameModel
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


def build_model(config: ModelConfig, frame_size: int, quantizer: Quantizer) -> FrameModel:
    """The model that `config.name` names, with new weights drawn from torch's generator.

    Args:
        config: settings of the model.
        frame_size: samples per frame.
        quantizer: where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such model, or it lacks what a model must have.
    """
    model = find_model(config.name)(config, frame_size, quantizer)
    if not hasattr(model, "frame_noise_size"):
        raise UserError(f"model.name is {config.name!r}, whose __init__ does not set frame_noise_size")
    return model
