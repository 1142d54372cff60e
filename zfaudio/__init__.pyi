from .config import DataConfig as DataConfig
from .config import ModelConfig as ModelConfig
from .config import ObjectiveConfig as ObjectiveConfig
from .config import RNNConfig as RNNConfig
from .config import RunConfig as RunConfig
from .config import SampleARConfig as SampleARConfig
from .config import SRNNConfig as SRNNConfig
from .config import TrainConfig as TrainConfig
from .config import VRNNConfig as VRNNConfig
from .config import ZForcingConfig as ZForcingConfig
from .data.shard import shard as shard
from .errors import UserError as UserError
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.latents import latents as latents
from .evaluation.quality import quality as quality
from .generation.generate import generate as generate
from .models.base import FrameModel as FrameModel
from .reporting.comparison_table import compare as compare
from .reporting.report import report as report
from .trained_model import RecordingScore as RecordingScore
from .trained_model import Speech as Speech
from .trained_model import TrainedModel as TrainedModel
from .trained_model import load as load
from .training.train import TrainingResult as TrainingResult
from .training.train import train as train

__version__: str
