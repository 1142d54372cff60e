"""What an experiment's latents.json, quality.json and training log say of it, as its page shows them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import collapse_warning
from zfaudio.evaluation.latents import RESULT as LATENTS
from zfaudio.evaluation.latents import Ablated, LatentsResult, Usage
from zfaudio.evaluation.phone_probe import ProbeResult
from zfaudio.evaluation.quality import RESULT as QUALITY
from zfaudio.evaluation.quality import Measures, QualityResult
from zfaudio.evaluation.speech_statistics import Voice
from zfaudio.experiment.metrics import read_metrics
from zfaudio.figures import Curve, draw_curves

Result = TypeVar("Result")


def read_latents(exp: Path) -> LatentsResult | None:
    """What `zfaudio latents` found; None where it was not asked. Raises UserError for a file that is something else."""

    def build(fields: dict[str, Any]) -> LatentsResult:
        parts = {"usage": Usage, "prior_drawn": Ablated, "state_cut": Ablated, "probe": ProbeResult}
        built = {name: part(**fields[name]) if fields[name] else None for name, part in parts.items()}
        return LatentsResult(**{**fields, **built})

    return read(exp / LATENTS, build, "zfaudio latents")


def read_quality(exp: Path) -> QualityResult | None:
    """What `zfaudio quality` found; None where it was not asked. Raises UserError for a file that is something else."""

    def build(fields: dict[str, Any]) -> QualityResult:
        sets = {
            name: Measures(**{**fields[name], "voice": Voice(**fields[name]["voice"])})
            for name in ("generated", "real", "floor")
        }
        return QualityResult(**{**fields, **sets})

    return read(exp / QUALITY, build, "zfaudio quality")


def read(path: Path, build: Callable[[dict[str, Any]], Result], command: str) -> Result | None:
    """The result in a JSON file, None where there is no file. Raises UserError where the file is not one."""
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a result of this version of {command} ({error!r}); make it again") from None


def draw_dimensions(usage: Usage) -> str | None:
    """The KL of each dimension, largest first, as SVG; None where there is nothing to draw on a logarithmic axis."""
    values = [kl for kl in usage.kl_per_dimension if kl > 0]
    if not values:
        return None
    return draw_curves("KL by dimension, nats per frame", [Curve("", range(1, len(values) + 1), values)], log=True)


def find_collapse(metrics: Path) -> str | None:
    """A warning where the last validation of a run found its posterior collapsed."""
    valid = [row for row in read_metrics(metrics) if row["split"] == "valid"]
    if not valid or valid[-1].get("collapsed") != "1":
        return None
    return f"Step {valid[-1]['step']}: {collapse_warning(float(valid[-1]['kl']))}."
