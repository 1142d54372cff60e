"""Every setting of a training run: what `--config` files hold and what a checkpoint keeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zfaudio.errors import UserError

# Data

SHORTEST_SECONDS = 0.0125  # one frame of 200 samples at 16 kHz; shorter recordings are rejected


@dataclass(frozen=True)
class FolderConfig:
    """How a folder of audio becomes a corpus.

    Args:
        split_by: what is kept together in one split: all recordings of a speaker, single files, or auto, which means
            speaker if there are at least three speakers and file otherwise.
        speaker_pattern: regular expression with a group named speaker that is searched in each file's path below the
            folder, such as '^(?P<speaker>[^/]+)/'. If empty, the speaker is the name of the file's folder, provided
            that there are several folders.
        lists: folder with train.txt, valid.txt and test.txt, which list the files of each split, one path below the
            audio folder per line. Files that are not listed are not used.
        valid_fraction: fraction of the speakers or files used for validation.
        test_fraction: fraction of the speakers or files used for testing.
        seed: seed of the random split.
        cut: how to cut recordings longer than max_seconds: at their quietest moments (silence), every max_seconds
            (fixed), or not at all (none).
        max_seconds: maximum length of a piece in seconds.
    """

    split_by: Literal["auto", "speaker", "file"] = "auto"
    speaker_pattern: str = ""
    lists: str | Path = ""
    valid_fraction: float = 0.05
    test_fraction: float = 0.05
    seed: int = 0
    cut: Literal["silence", "fixed", "none"] = "silence"
    max_seconds: float = 15.0

    def __post_init__(self) -> None:
        if self.max_seconds <= 2 * SHORTEST_SECONDS:
            raise UserError(f"--folder.max-seconds {self.max_seconds}: must be longer than {2 * SHORTEST_SECONDS}")


@dataclass
class DataConfig:
    """The data to train and score on.

    Args:
        shards: folder of the shards that `zfaudio shard` made, or its address (http://..., s3://...).
        dequantize: add uniform noise of one quantization step, so that the density bounds the probability of the
            16-bit signal; false is the published protocol.
        carry_state: in training, walk through each recording segment after segment and carry the recurrent state
            along; false takes segments at random offsets, each from a zero state, as published.
        score_first_frame: put a frame of zeros (the corpus mean) before each recording, so that its first frame is
            scored too; the published numbers score from the second frame.
        shuffle_utterances: size of the buffer from which training utterances are drawn at random.
    """

    shards: str = ""
    dequantize: bool = True
    carry_state: bool = True
    score_first_frame: bool = False
    shuffle_utterances: int = 1000

    def __post_init__(self) -> None:
        require_at_least(1, "data", self, "shuffle_utterances")


# Models


@dataclass
class ModelConfig:
    """What the settings of every model have in common. Each model has a subclass with settings of its own.

    Args:
        name: the model, by its short name, or by its import path, such as my_package.MyModel.
    """

    name: str = ""


@dataclass
class FrameDensityConfig(ModelConfig):
    """The density of a frame, for models that use the likelihoods and heads of this package.

    Args:
        likelihood: density of a sample or frame: gaussian, gaussian_mixture, logistic_mixture (a mixture of logistics
            integrated over each 16-bit step), or the import path of another one.
        components: number of components of a mixture.
        min_deviation: floor of a Gaussian's deviation, in units of the corpus's deviation; 0 is the published protocol.
        head: how the samples of a frame depend on each other, given the state: factorized (not at all), autoregressive
            (each sample is predicted from those before it), or the import path of another one.
        head_window: number of previous samples that the autoregressive head reads.
        head_size: units of its two hidden layers.
        head_stride: in training, score one of every head_stride samples of a frame, chosen at random, and weight it
            accordingly. A step becomes faster and learns about as much. Scoring always counts every sample.
        core: how loops over frames and samples are computed: fast, where a fast version exists, or plain, as the
            equations read.
    """

    likelihood: str = "gaussian"
    components: int = 10
    min_deviation: float = 0.001
    head: str = "factorized"
    head_window: int = 64
    head_size: int = 192
    head_stride: int = 1
    core: Literal["plain", "fast"] = "fast"

    def __post_init__(self) -> None:
        require_at_least(1, "model", self, "components", "head_size", "head_stride")
        require_at_least(2, "model", self, "head_window")  # the head reads the changes within its window


@dataclass
class RNNConfig(FrameDensityConfig):
    """A recurrent network without latents.

    Args:
        hidden_size: units of each LSTM.
        embedding_size: units of the embedding of a frame.
    """

    name: str = "rnn"
    hidden_size: int = 1024
    embedding_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "hidden_size", "embedding_size")


@dataclass
class LatentConfig(RNNConfig):
    """What models with latents have in common.

    Args:
        latent_size: dimensions of the latent z_t.
        mlp_size: hidden units of the prior, posterior and auxiliary networks.
    """

    latent_size: int = 256
    mlp_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "latent_size", "mlp_size")


@dataclass
class ZForcingConfig(LatentConfig):
    """Z-forcing.

    Args:
        auxiliary: what the auxiliary network reads: the latent alone, the latent and the state, or none to leave the
            auxiliary cost out.
        auxiliary_cost: Gaussian log-density of the backward state b_t, or minus the squared error.
        backward_reconstruction: whether b_t also predicts the frame x_t.
        conditional_layer_norm: whether z_t enters the decoder as gain and bias of a layer norm. Runs on the plain core.
    """

    name: str = "zforcing"
    auxiliary: Literal["none", "latent", "latent_and_state"] = "latent"
    auxiliary_cost: Literal["gaussian", "squared_error"] = "gaussian"
    backward_reconstruction: bool = False
    conditional_layer_norm: bool = False


@dataclass
class VRNNConfig(LatentConfig):
    """The variational recurrent network, VRNN."""

    name: str = "vrnn"


@dataclass
class SRNNConfig(LatentConfig):
    """The stochastic recurrent network, SRNN.

    Args:
        smoothing: whether the posterior reads the whole future, or the next frame alone.
        residual_posterior: whether the posterior's mean is a correction added to the prior's.
    """

    name: str = "srnn"
    smoothing: bool = True
    residual_posterior: bool = True


@dataclass
class SampleARConfig(FrameDensityConfig):
    """The autoregressive head by itself, without a state."""

    name: str = "sample_ar"
    head: str = "autoregressive"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head != "autoregressive":
            raise UserError(
                f"model.head is {self.head}; sample_ar is the autoregressive head by itself: "
                "set model.head autoregressive, or leave it out"
            )


# Training


@dataclass
class ObjectiveConfig:
    """Weights of the objective's terms.

    Args:
        kl_weight_start: weight of the KL term at step 0.
        kl_weight_step: increase of that weight per step, until it is 1.
        aux_weight_start: weight of the auxiliary term log p(b_t | z_t) at step 0.
        aux_weight_end: final weight of the auxiliary term.
        aux_weight_step: change of that weight per step, until it reaches its final value.
        backward_weight: weight of log p(x_t | b_t), for models with backward reconstruction.
    """

    kl_weight_start: float = 0.2
    kl_weight_step: float = 5e-5
    aux_weight_start: float = 0.0
    aux_weight_end: float = 0.005
    aux_weight_step: float = 5e-5
    backward_weight: float = 1.0


@dataclass
class TrainConfig:
    """The optimizer, the schedule and where to train.

    Args:
        max_steps: number of optimizer steps.
        batch_size: sequences per step, on each process.
        segment_frames: scored frames of each sequence in a step.
        learning_rate: learning rate of Adam at the start.
        min_learning_rate: the learning rate is never reduced below this.
        patience: validations without improvement before the learning rate is halved.
        decay_steps: number of steps at the end of training over which the learning rate falls linearly to
            min_learning_rate. If it is not 0, the learning rate is not halved.
        adam_eps: epsilon of Adam.
        clip_norm: the gradient is clipped to this norm; the loss is in nats per sequence.
        seed: seed of the initial weights, the order of the data and every random draw.
        device: where to train; auto takes a GPU if there is one.
        precision: precision of matrix products: fp32, tf32 (on a GPU), or bf16. Weights and densities stay in float32.
            On a CPU, bf16 is faster only if the processor multiplies it (AVX512-BF16 or AMX).
        cuda_graph: launch the kernels of a step as one CUDA graph. For one process on a GPU; not yet tested on one.
        log_every: steps between lines of the log.
        validate_every: steps between validations on whole utterances.
        save_every: steps between checkpoints.
        max_skipped: stop after this many consecutive steps whose loss or gradient is not finite.
    """

    max_steps: int = 50_000
    batch_size: int = 32
    segment_frames: int = 40
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    patience: int = 2
    decay_steps: int = 0
    adam_eps: float = 1e-5
    clip_norm: float = 100.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    cuda_graph: bool = False
    log_every: int = 20
    validate_every: int = 1000
    save_every: int = 1000
    max_skipped: int = 50

    def __post_init__(self) -> None:
        require_at_least(1, "train", self, "max_steps", "batch_size", "segment_frames")
        require_at_least(1, "train", self, "log_every", "validate_every", "save_every")


@dataclass
class RunConfig:
    """All settings of a training run."""

    model: ModelConfig = field(default_factory=ZForcingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def require_at_least(least: int, section: str, settings: Any, *names: str) -> None:
    """Raises UserError that names the first of these settings that is below `least`."""
    for name in names:
        if getattr(settings, name) < least:
            raise UserError(f"{section}.{name} is {getattr(settings, name)}; it must be at least {least}")
