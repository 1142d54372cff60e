"""Posterior collapse: a model has learned to ignore its latents.

The KL term then falls to almost zero, the posterior equals the prior, and the decoder predicts frames from its state
alone (Bowman et al., 2016, "Generating Sentences from a Continuous Space", section 3). A low KL shows this only if the
KL term has a substantial weight in the objective.
"""

from zfaudio.text import format_number

COLLAPSED_KL = 0.05  # nats per frame; a smaller KL is too little to tell one frame from another
LEAST_KL_WEIGHT = 0.5  # weight of the KL term from which a low KL counts as collapse


def has_collapsed(kl_per_frame: float, kl_weight: float = 1.0) -> bool:
    """Whether a KL in nats per frame counts as collapse, given the weight of the KL term in training."""
    return kl_weight >= LEAST_KL_WEIGHT and kl_per_frame < COLLAPSED_KL


def collapse_warning(kl_per_frame: float) -> str:
    """A warning of one line that says what to try."""
    return (
        f"posterior collapse: the latents carry {format_number(kl_per_frame, 3)} nats a frame (below {COLLAPSED_KL}); "
        "try a lower objective.kl_weight_start with a smaller objective.kl_weight_step, or, with zforcing, a higher "
        "objective.aux_weight_end"
    )
