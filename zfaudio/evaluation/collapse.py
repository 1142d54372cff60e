"""Posterior collapse: a model has learned to ignore its latents.

The KL term then falls to almost zero, the posterior equals the prior, and the decoder predicts frames from its state
alone (Bowman et al., 2016, "Generating Sentences from a Continuous Space", section 3). A low KL shows this only if the
KL term has a substantial weight in the objective.
"""

from zfaudio.data.manifest import Manifest
from zfaudio.text import format_number

COLLAPSED_KL = 0.05  # nats per frame; a smaller KL is too little to tell one frame from another
COLLAPSED_SEQUENCE_KL = 0.5  # nats per picture or sentence, of which a single pixel or word holds little
LEAST_KL_WEIGHT = 0.5  # weight of the KL term from which a low KL counts as collapse


def frames_judged(manifest: Manifest, split: str) -> float | None:
    """The frames of a picture or sentence of a split, on average; None for recordings, which are judged by frame."""
    if manifest.kind == "waveform":
        return None
    found = manifest.split(split)
    return found.frames / max(found.utterances, 1)


def has_collapsed(kl_per_frame: float, kl_weight: float = 1.0, frames: float | None = None) -> bool:
    """Whether a KL in nats per frame counts as collapse.

    Args:
        kl_per_frame: of the posterior from the prior.
        kl_weight: weight of the KL term in training.
        frames: of a picture or sentence, see `frames_judged`.
    """
    least = COLLAPSED_KL if frames is None else COLLAPSED_SEQUENCE_KL / frames
    return kl_weight >= LEAST_KL_WEIGHT and kl_per_frame < least


def collapse_warning(kl_per_frame: float, frames: float | None = None) -> str:
    """A warning of one line that says what to try; the arguments are those of `has_collapsed`."""
    found = f"{format_number(kl_per_frame, 3)} nats a frame (below {COLLAPSED_KL})"
    if frames is not None:
        found = f"{format_number(kl_per_frame * frames, 2)} nats a sequence (below {COLLAPSED_SEQUENCE_KL})"
    return (
        f"posterior collapse: the latents carry {found}; "
        "try a lower objective.kl_weight_start with a smaller objective.kl_weight_step, or, with zforcing, a higher "
        "objective.aux_weight_end"
    )
