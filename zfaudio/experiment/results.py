"""The result of an evaluation, as a file of an experiment: EXP/results/NAME.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from zfaudio.errors import UserError
from zfaudio.evaluation.references import References

Protocol = Literal["whole", "zforcing2017"]


@dataclass
class Score:
    """Of one utterance."""

    utterance: str
    frames: int  # scored frames
    nats: float  # the bound, summed over them, in standardized space


@dataclass
class EvaluationResult:
    """The content of `--json`. Nats are in standardized space where the name does not say otherwise."""

    model: str
    likelihood: str  # density of a frame
    head: str  # factorized or autoregressive
    parameters: int
    checkpoint_step: int
    split: str
    utterances: int
    frames: int
    frame_size: int
    sample_rate: int
    bound: str  # elbo, iwae or exact
    importance_samples: int
    draws: int
    seed: int
    protocol: Protocol
    dequantized: bool
    score_first_frame: bool
    mean: float  # that waveforms were standardized by, in 16-bit steps
    deviation: float
    audio_sha256: str  # of the scored frames: scores of the same audio compare
    constant_frames: int
    nats_per_frame: float
    nats_per_frame_ci95: tuple[float, float]
    nats_per_sample: float
    nats_per_waveform_sample: float
    nats_per_utterance: float
    conventions: dict[str, float]  # nats per sequence, by the name of what published tables mean by it
    bits_per_sample: float | None  # of the 16-bit signal; None without dequantization, where it would bound nothing
    kl_per_frame: float
    median_frame_nats: float
    worst_permille_share: float
    references: References
    command: str
    scores: list[Score]


def write_result(path: Path, result: Any) -> None:
    """Write a dataclass as JSON: an evaluation's result, or that of `zfaudio latents` or `zfaudio quality`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


def read_result(path: Path) -> EvaluationResult:
    """The result that `write_result` wrote. Raises UserError where there is none, or one of another version."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["references"] = References(**fields["references"])
        fields["scores"] = [Score(**score) for score in fields["scores"]]
        low, high = fields["nats_per_frame_ci95"]
        return EvaluationResult(**{**fields, "nats_per_frame_ci95": (low, high)})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a result of this version of zfaudio evaluate ({error}); make it again") from None
