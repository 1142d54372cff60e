"""Every setting of a training run: what `--config` files hold and what a checkpoint keeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from zfaudio.errors import UserError
from zfaudio.settings import check_settings, setting

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
    valid_fraction: float = setting(0.05, least=0, most=1)
    test_fraction: float = setting(0.05, least=0, most=1)
    seed: int = setting(0, least=0)
    cut: Literal["silence", "fixed", "none"] = "silence"
    max_seconds: float = setting(15.0, above=2 * SHORTEST_SECONDS)

    def __post_init__(self) -> None:
        check_settings("folder", self)


@dataclass
class DataConfig:
    """The data to train and score on.

    Args:
        shards: folder of the shards that `zfaudio shard` made, or its address (http://..., s3://...).
        dequantize: add uniform noise of one quantization step, so that the density bounds the probability of the
            16-bit signal; false is the published protocol. Pixels and words are left as they are.
        carry_state: in training, walk through each recording segment after segment and carry the recurrent state
            along; false takes segments at random offsets, each from a zero state, as published.
        score_first_frame: put a frame of zeros (the corpus mean, or the start of a sentence) before each recording, so
            that its first frame is scored too; the published numbers for speech score from the second frame, those for
            pictures and sentences from the first.
        shuffle_utterances: size of the buffer from which training utterances are drawn at random.
    """

    shards: str = ""
    dequantize: bool = True
    carry_state: bool = True
    score_first_frame: bool = False
    shuffle_utterances: int = setting(1000, least=1)

    def __post_init__(self) -> None:
        check_settings("data", self)


# Models


@dataclass
class ModelConfig:
    """What the settings of every model have in common. Each model has a subclass with settings of its own.

    Args:
        name: the model, by its short name, or by its import path, such as my_package.MyModel.
    """

    name: str = ""

    def __post_init__(self) -> None:
        check_settings("model", self)


@dataclass
class LikelihoodConfig(ModelConfig):
    """The form of densities, for models that use the likelihoods of this package.

    Args:
        likelihood: density of a sample or frame: gaussian, gaussian_mixture, logistic_mixture (a mixture of logistics
            integrated over each 16-bit step), mulaw (a probability for each level of 8-bit mu-law), bernoulli (pixels
            of 0 and 1), categorical (words), or the import path of another one.
        components: number of components of a mixture.
        min_deviation: floor of a Gaussian's deviation, in units of the corpus's deviation; 0 is the published protocol.
        core: how loops over frames and samples are computed: fast, where a fast version exists, or plain, as the
            equations read.
    """

    likelihood: str = "gaussian"
    components: int = setting(10, least=1)
    min_deviation: float = setting(0.001, least=0)
    core: Literal["plain", "fast"] = "fast"


@dataclass
class FrameDensityConfig(LikelihoodConfig):
    """The density of a frame, for models that use the likelihoods and heads of this package.

    Args:
        head: how the samples of a frame depend on each other, given the state: factorized (not at all), autoregressive
            (each sample is predicted from those before it), tiered (the same, with a tier between frame and sample that
            hears a few pitch periods, and a linear prediction), dilated (the same, by dilated convolutions, as in
            WaveNet), or the import path of another one.
        head_window: number of previous samples that the autoregressive head reads, or of residuals that the tiered head
            reads; it may be longer than a frame. The dilated head takes the level of the signal from so many samples.
        head_size: units of its two hidden layers; of the dilated head, those behind its convolutions.
        head_stride: in training, score one of every head_stride samples of a frame, chosen at random, and weight it
            accordingly. A step becomes faster and learns about as much. Scoring always counts every sample.
        head_tier: of the tiered head: number of samples for each step of its middle tier.
        head_tier_window: number of previous samples that the middle tier reads.
        head_tier_size: units of each of its two hidden layers.
        head_lags: how many residuals on each side of the one a pitch period back the tiered head reads; 0 for none, not
            even that one.
        head_order: order of the tiered head's linear prediction.
        head_jitter: deviation of the logarithm of a random gain, at which the tiered head hears the samples before each
            frame in training, so that it learns to come back to the level of speech.
        head_dilations: number of convolutions in a stack of the dilated head, with dilations 1, 2, 4, ...; 10 of them
            reach back 1,023 samples.
        head_stacks: number of its stacks, one above the other.
        head_channels: channels of its convolutions.
    """

    head: str = "factorized"
    head_window: int = setting(64, least=2)  # the head reads the changes within its window
    head_size: int = setting(192, least=1)
    head_stride: int = setting(1, least=1)
    head_tier: int = setting(20, least=1)
    head_tier_window: int = setting(320, least=2)
    head_tier_size: int = setting(256, least=1)
    head_lags: int = setting(5, least=0)
    head_order: int = setting(16, least=1)
    head_jitter: float = setting(0.0, least=0)
    head_dilations: int = setting(10, least=1, most=16)
    head_stacks: int = setting(1, least=1)
    head_channels: int = setting(32, least=1)


@dataclass
class RNNConfig(FrameDensityConfig):
    """A recurrent network without latents.

    Args:
        hidden_size: units of each LSTM.
        embedding_size: units of the embedding of a frame.
        encoder: what is embedded: linear (the frame itself, as published), mel (a layer of embedding_size units over
            the spectrum of the last samples, the frame's level and its samples), lookup (a learned vector for each
            word), or the import path of another one.
        input_dropout: fraction of the frames, drawn at random, that the state does not read in training (word dropout,
            if a frame is a word). With 1 it never reads a frame, so that the latents have to tell all of the past that
            the head does not read itself.
        encoder_bands: number of mel bands.
        encoder_window: number of samples of the spectrum, which ends with the frame.
        sample_rate: of the recordings in Hz, for the mel bands; 0 is that of the shards, filled in when training
            starts.
    """

    name: str = "rnn"
    hidden_size: int = setting(1024, least=1)
    embedding_size: int = setting(512, least=1)
    encoder: str = "linear"
    input_dropout: float = setting(0.0, least=0, most=1)
    encoder_bands: int = setting(40, least=1)
    encoder_window: int = setting(512, least=2)
    sample_rate: int = setting(0, least=0)


@dataclass
class LatentConfig(RNNConfig):
    """What models with latents have in common.

    Args:
        latent_size: dimensions of the latent z_t.
        mlp_size: hidden units of the prior, posterior and auxiliary networks.
    """

    latent_size: int = setting(256, least=1)
    mlp_size: int = setting(512, least=1)


@dataclass
class ZForcingConfig(LatentConfig):
    """Z-forcing.

    Args:
        auxiliary: what the auxiliary network reads: the latent alone, the latent and the state, or none to leave the
            auxiliary cost out.
        auxiliary_target: what the auxiliary network predicts: the backward state b_t, as published, or the mel spectra
            of the next frames, as `encoder_bands` and `encoder_window` describe them.
        auxiliary_frames: number of frames whose spectra are predicted.
        auxiliary_cost: Gaussian log-density of that target, or minus the squared error.
        backward_reconstruction: whether b_t also predicts the frame x_t.
        conditional_layer_norm: whether z_t enters the decoder as gain and bias of a layer norm. Runs on the plain core.
    """

    name: str = "zforcing"
    auxiliary: Literal["none", "latent", "latent_and_state"] = "latent"
    auxiliary_target: Literal["backward_state", "mel"] = "backward_state"
    auxiliary_frames: int = setting(3, least=1)
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
    """The autoregressive or the tiered head by itself, without a state."""

    heads: ClassVar[tuple[str, ...]] = ("autoregressive", "tiered")  # that the model may be

    name: str = "sample_ar"
    head: str = "autoregressive"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in self.heads:
            raise UserError(
                f"model.head is {self.head}; {self.name} is a head by itself that predicts each sample from those "
                f"before it: set model.head {' or '.join(self.heads)}, or leave it out"
            )


@dataclass
class WaveNetConfig(SampleARConfig):
    """WaveNet: the dilated head by itself. Its sizes are head_dilations, head_stacks, head_channels and head_size."""

    heads: ClassVar[tuple[str, ...]] = ("dilated",)

    name: str = "wavenet"
    head: str = "dilated"


@dataclass
class SampleRNNConfig(LikelihoodConfig):
    """SampleRNN: recurrent networks at two rates, and a network over samples.

    Args:
        hidden_size: units of the upper tier's LSTM, which runs once a frame.
        embedding_size: units of the embedding of a frame.
        middle_step: number of samples for each step of the middle tier.
        middle_size: units of its GRU.
        sample_window: number of previous samples that the sample tier reads.
        sample_size: units of each of its two hidden layers.
        sample_stride: in training, score one of every sample_stride samples, chosen at random, and weight it
            accordingly. A step becomes faster and learns about as much. Scoring always counts every sample.
    """

    name: str = "samplernn"
    hidden_size: int = setting(1024, least=1)
    embedding_size: int = setting(512, least=1)
    middle_step: int = setting(20, least=1)
    middle_size: int = setting(512, least=1)
    sample_window: int = setting(32, least=2)  # the tier reads the changes within its window
    sample_size: int = setting(192, least=1)
    sample_stride: int = setting(1, least=1)


# Training


@dataclass
class ObjectiveConfig:
    """Weights of the objective's terms.

    Args:
        kl_weight_start: weight of the KL term at step 0.
        kl_weight_step: increase of that weight per step, until it is 1.
        free_bits: nats per frame of the KL term that cost nothing in training (Kingma et al., 2016).
        aux_weight_start: weight of the auxiliary term log p(b_t | z_t) at step 0.
        aux_weight_end: final weight of the auxiliary term.
        aux_weight_step: change of that weight per step, until it reaches its final value.
        backward_weight: weight of log p(x_t | b_t), for models with backward reconstruction.
    """

    kl_weight_start: float = setting(0.2, least=0)
    kl_weight_step: float = setting(5e-5, least=0)
    free_bits: float = setting(0.0, least=0)
    aux_weight_start: float = setting(0.0, least=0)
    aux_weight_end: float = setting(0.005, least=0)
    aux_weight_step: float = setting(5e-5, least=0)
    backward_weight: float = setting(1.0, least=0)

    def __post_init__(self) -> None:
        check_settings("objective", self)


@dataclass
class TrainConfig:
    """The optimizer, the schedule and where to train.

    Args:
        max_steps: number of optimizer steps.
        init_from: an experiment or checkpoint whose weights the model starts from, where their names and shapes fit.
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
        tracker: where the run can be watched: tensorboard, or wandb (Weights & Biases, which has to be installed).
        samples: number of samples, and with latents a reconstruction, that are shown there at each validation.
        log_every: steps between lines of the log.
        validate_every: steps between validations on whole utterances.
        save_every: steps between checkpoints. Only the best and the last one are kept.
        keep_every: keep the checkpoint of every step that this divides, too; 0 keeps none.
        max_skipped: stop after this many consecutive steps whose loss or gradient is not finite.
    """

    max_steps: int = setting(50_000, least=1)
    init_from: str = ""
    batch_size: int = setting(32, least=1)
    segment_frames: int = setting(40, least=1)
    learning_rate: float = setting(1e-3, above=0)
    min_learning_rate: float = setting(1e-4, least=0)
    patience: int = setting(2, least=0)
    decay_steps: int = setting(0, least=0)
    adam_eps: float = setting(1e-5, above=0)
    clip_norm: float = setting(100.0, above=0, infinite=True)
    seed: int = setting(0, least=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    cuda_graph: bool = False
    tracker: Literal["tensorboard", "wandb"] = "tensorboard"
    samples: int = setting(2, least=0)
    log_every: int = setting(20, least=1)
    validate_every: int = setting(1000, least=1)
    save_every: int = setting(1000, least=1)
    keep_every: int = setting(0, least=0)
    max_skipped: int = setting(50, least=1)

    def __post_init__(self) -> None:
        check_settings("train", self)
        if self.decay_steps and self.min_learning_rate > self.learning_rate:
            raise UserError(
                f"train.min_learning_rate is {self.min_learning_rate}; with train.decay_steps it must be at most "
                f"train.learning_rate, {self.learning_rate}"
            )


@dataclass
class RunConfig:
    """All settings of a training run."""

    model: ModelConfig = field(default_factory=ZForcingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
