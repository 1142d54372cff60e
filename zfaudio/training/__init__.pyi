from .objective import Weights as Weights
from .objective import training_loss as training_loss
from .objective import weights_at as weights_at
from .run import Training as Training
from .train import TrainingResult as TrainingResult
