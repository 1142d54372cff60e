"""The result of `zfaudio evaluate`, which an experiment keeps as EXP/results/NAME.json."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from zfaudio.errors import UserError
from zfaudio.observations import Encoding, Kind, describe
from zfaudio.typed_json import read_json, write_json

FORMAT_VERSION = 2

Bound = Literal["elbo", "iwae", "exact"]
Protocol = Literal["whole", "zforcing2017"]


@dataclass
class References:
    """Scores of the same audio that need no trained model."""

    iid_gaussian_nats_per_frame: float
    flac_bits_per_sample: float  # by libsndfile at its strongest
    wavpack_bits_per_sample: float | None = None  # by the program wavpack, -hh -x6; None where it was not installed

    @property
    def lossless_coders(self) -> dict[str, float]:
        """Bits per sample, by the name of each coder that was measured."""
        coders = {"FLAC": self.flac_bits_per_sample, "WavPack": self.wavpack_bits_per_sample}
        return {name: bits for name, bits in coders.items() if bits is not None}


@dataclass
class Score:
    """The score of one utterance."""

    utterance: str
    frames: int  # number of scored frames
    nats: float  # the bound, summed over the scored frames, in standardized space


@dataclass
class WaveformScore:
    """What a result says of recordings."""

    sample_rate: int  # Hz
    encoding: Encoding  # of the samples that the bits are of: linear for 16 bits, or mulaw for the 8 bits of mu-law
    dequantized: bool
    mean: float  # mean and deviation that standardized the waveforms, in 16-bit steps
    deviation: float
    constant_frames: int
    nats_per_sample: float
    nats_per_waveform_sample: float
    conventions: dict[str, float]  # nats per sequence, by the name of the convention
    bits_per_sample: float | None  # see `encoding`; None of 16 bits without dequantization, where nothing bounds it
    references: References | None  # of 16-bit samples alone: coders of these say nothing about 8-bit mu-law
    # Of 8-bit mu-law alone: by levels drawn independently, as often as they are in the audio.
    iid_levels_nats_per_frame: float | None

    @property
    def independent(self) -> tuple[str, float]:
        """The name and the nats per frame of the reference whose samples are independent of each other."""
        if self.references is None:
            assert self.iid_levels_nats_per_frame is not None
            return "i.i.d. levels", self.iid_levels_nats_per_frame
        return "i.i.d. Gaussian", self.references.iid_gaussian_nats_per_frame

    @property
    def lossless_coders(self) -> dict[str, float]:
        """Bits per 16-bit sample, by the name of each coder that was measured."""
        return {} if self.references is None else self.references.lossless_coders


# Fields that only results of one kind, or of two, have. The file of another kind lacks them.
OF_KIND: dict[Kind, tuple[str, ...]] = {
    "waveform": tuple(each.name for each in fields(WaveformScore)),
    "binary": ("image_size", "nats_per_utterance_ci95"),
    "tokens": ("vocabulary", "word_perplexity", "word_perplexity_ci95", "unknown_share", "nats_per_utterance_ci95"),
}
MAY_BE_NONE = {"bits_per_sample", "image_size", "word_perplexity_ci95", "nats_per_utterance_ci95"}

# Of recordings, those that only one encoding of samples has.
OF_ENCODING: dict[Encoding, str] = {"linear": "references", "mulaw": "iid_levels_nats_per_frame"}


@dataclass
class EvaluationResult:
    """The result of an evaluation.

    Nats of recordings are in standardized space unless the name says otherwise. Those of pixels and words are
    probabilities.
    """

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    kind: Kind = field(default="waveform", kw_only=True)  # what a frame holds
    model: str  # its name in the configuration: a short name or an import path
    likelihood: str | None  # density of a frame; None for a model without this setting
    head: str | None  # factorized or autoregressive; None for a model without this setting
    parameters: int
    checkpoint_step: int
    split: str
    utterances: int
    frames: int
    frame_size: int  # samples, pixels or words
    sample_rate: int | None = field(default=None, kw_only=True)
    encoding: Encoding | None = field(default=None, kw_only=True)
    bound: Bound
    importance_samples: int
    draws: int
    seed: int
    protocol: Protocol
    dequantized: bool | None = field(default=None, kw_only=True)
    score_first_frame: bool
    mean: float | None = field(default=None, kw_only=True)
    deviation: float | None = field(default=None, kw_only=True)
    audio_sha256: str  # of the scored frames; results with the same value scored the same
    constant_frames: int | None = field(default=None, kw_only=True)
    nats_per_frame: float
    nats_per_frame_ci95: tuple[float, float] | None  # None for a single utterance, which has no interval
    nats_per_sample: float | None = field(default=None, kw_only=True)
    nats_per_waveform_sample: float | None = field(default=None, kw_only=True)
    nats_per_utterance: float  # nats per image, or per sentence
    nats_per_utterance_ci95: tuple[float, float] | None = field(default=None, kw_only=True)
    image_size: list[int] | None = field(default=None, kw_only=True)  # rows and columns, if an utterance is a picture
    vocabulary: int | None = field(default=None, kw_only=True)  # number of words
    word_perplexity: float | None = field(default=None, kw_only=True)  # exp(-nats per word); the end is a word
    word_perplexity_ci95: tuple[float, float] | None = field(default=None, kw_only=True)
    unknown_share: float | None = field(default=None, kw_only=True)  # of the scored words, those that are <unk>
    conventions: dict[str, float] | None = field(default=None, kw_only=True)
    bits_per_sample: float | None = field(default=None, kw_only=True)
    kl_per_frame: float
    median_frame_nats: float
    worst_permille_share: float
    references: References | None = field(default=None, kw_only=True)
    iid_levels_nats_per_frame: float | None = field(default=None, kw_only=True)
    command: str
    scores: list[Score]

    def __post_init__(self) -> None:
        if self.kind == "waveform" and self.encoding is None:
            self.encoding = "linear"  # what earlier versions wrote knew no other
        foreign = foreign_fields(self.kind, self.encoding)
        for name in OF_KIND[self.kind]:
            if getattr(self, name) is None and name not in MAY_BE_NONE and name not in foreign:
                raise ValueError(f"{name} is None, which a result of {describe(self.kind)} must have")
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is given, which {describe(self.kind)} do not have")

    @property
    def waveform(self) -> WaveformScore:
        """What the result says of recordings. Raises UserError if something else was scored."""
        if self.kind != "waveform":
            raise UserError(f"this result is of {describe(self.kind)}; this needs the result of recordings")
        return WaveformScore(**{name: getattr(self, name) for name in OF_KIND["waveform"]})


def foreign_fields(kind: Kind, encoding: Encoding | None = None) -> list[str]:
    """The fields that results of other kinds or encodings have, and these lack."""
    others = [name for names in OF_KIND.values() for name in names if name not in OF_KIND[kind]]
    return others + [name for other, name in OF_ENCODING.items() if kind == "waveform" and other != encoding]


def write_result(path: Path, result: EvaluationResult) -> None:
    """Write a result as JSON, without the fields that its kind or encoding does not have."""
    write_json(path, result, left_out=foreign_fields(result.kind, result.encoding))


def read_result(path: str | Path) -> EvaluationResult:
    """Read the result of an evaluation, also one that an earlier version wrote.

    Raises:
        UserError: there is no such file, or it is not a result of an evaluation; the message names the wrong field.
    """
    return read_json(EvaluationResult, Path(path), "zfaudio evaluate", FORMAT_VERSION, _upgrade)


def _upgrade(fields: dict[str, Any], version: int) -> None:
    kind = fields.get("kind", "waveform")
    if kind == "waveform":
        fields.setdefault("encoding", "linear")
    foreign = foreign_fields(kind, fields.get("encoding")) if kind in OF_KIND else []
    for name in OF_KIND.get(kind, ()):
        if name not in fields and name not in foreign:
            raise ValueError(f"field {name} is missing")
    if version < 2 and fields.get("head") == "factorised":
        fields["head"] = "factorized"
    if isinstance(fields.get("conventions"), dict):
        # Earlier versions named these after the corpora whose published tables count so, on every corpus.
        renamed = {
            "timit: summed over a whole utterance, averaged over utterances": "per utterance, averaged over utterances"
        }
        fields["conventions"] = {
            renamed.get(name, name.replace("blizzard: half-second sequences", "per half second")): nats
            for name, nats in fields["conventions"].items()
        }
    interval = fields.get("nats_per_frame_ci95")
    if fields.get("utterances") == 1 and isinstance(interval, list) and interval[:1] == interval[1:]:
        fields["nats_per_frame_ci95"] = None  # earlier versions gave a single utterance an interval of no width
