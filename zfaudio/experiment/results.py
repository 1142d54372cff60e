"""The result of `zfaudio evaluate`, which an experiment keeps as EXP/results/NAME.json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zfaudio.typed_json import read_json

FORMAT_VERSION = 2

Bound = Literal["elbo", "iwae", "exact"]
Protocol = Literal["whole", "zforcing2017"]


@dataclass
class References:
    """Scores of the same audio that need no trained model."""

    iid_gaussian_nats_per_frame: float
    flac_bits_per_sample: float


@dataclass
class Score:
    """The score of one utterance."""

    utterance: str
    frames: int  # number of scored frames
    nats: float  # the bound, summed over the scored frames, in standardized space


@dataclass
class EvaluationResult:
    """The result of an evaluation. Nats are in standardized space unless the name says otherwise."""

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    model: str  # its name in the configuration: a short name or an import path
    likelihood: str | None  # density of a frame; None for a model without this setting
    head: str | None  # factorized or autoregressive; None for a model without this setting
    parameters: int
    checkpoint_step: int
    split: str
    utterances: int
    frames: int
    frame_size: int  # samples
    sample_rate: int  # Hz
    bound: Bound
    importance_samples: int
    draws: int
    seed: int
    protocol: Protocol
    dequantized: bool
    score_first_frame: bool
    mean: float  # mean and deviation that standardized the waveforms, in 16-bit steps
    deviation: float
    audio_sha256: str  # of the scored frames; results with the same value scored the same audio
    constant_frames: int
    nats_per_frame: float
    nats_per_frame_ci95: tuple[float, float] | None  # None for a single utterance, which has no interval
    nats_per_sample: float
    nats_per_waveform_sample: float
    nats_per_utterance: float
    conventions: dict[str, float]  # nats per sequence, by the name of the convention
    bits_per_sample: float | None  # of the 16-bit signal; None without dequantization, where nothing bounds it
    kl_per_frame: float
    median_frame_nats: float
    worst_permille_share: float
    references: References
    command: str
    scores: list[Score]


def read_result(path: str | Path) -> EvaluationResult:
    """Read the result of an evaluation, also one that an earlier version wrote.

    Raises:
        UserError: there is no such file, or it is not a result of an evaluation; the message names the wrong field.
    """
    return read_json(EvaluationResult, Path(path), "zfaudio evaluate", FORMAT_VERSION, _upgrade)


def _upgrade(fields: dict[str, Any], version: int) -> None:
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
