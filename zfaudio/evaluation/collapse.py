"""Posterior collapse: a model with latents that has learned to do without them.

The KL term then falls to nothing, posterior and prior are one, and the decoder predicts frames from its state alone
(Bowman et al., 2016, "Generating Sentences from a Continuous Space", section 3). While the KL weight is small its cost
says little, so collapse is looked for once the weight has grown.
"""

COLLAPSED_KL = 0.05  # nats a frame; fewer are too few to tell one frame from another
TELLING_WEIGHT = 0.5  # of the KL term


def has_collapsed(kl_per_frame: float, kl_weight: float = 1.0) -> bool:
    """Whether a KL in nats a frame, reached under a weight of the KL term, counts as collapse."""
    return kl_weight >= TELLING_WEIGHT and kl_per_frame < COLLAPSED_KL


def collapse_warning(kl_per_frame: float) -> str:
    """What to tell the user, in one line."""
    return (
        f"posterior collapse: the latents carry {kl_per_frame:.3f} nats a frame (below {COLLAPSED_KL}); try a lower "
        "objective.kl_weight_start with a smaller objective.kl_weight_step, or, with zforcing, a higher "
        "objective.aux_weight_end"
    )
