"""What needs no training scores on the validation part, so that a newcomer can tell a good score from a bad one."""

from collections.abc import Iterator

import numpy as np

from zfaudio.config import DataConfig
from zfaudio.data.manifest import Manifest
from zfaudio.evaluation.references import ScoredLevels, measure_waveforms, scored_frames
from zfaudio.evaluation.units import Units

MOST_SECONDS = 120  # of the validation part that are measured: WavPack codes some 15 seconds of 16 kHz in one


def what_to_expect(manifest: Manifest, data: DataConfig) -> str:
    """A line with the scores of an i.i.d. Gaussian, FLAC and WavPack on the validation part, in nats per frame.

    Of 8-bit mu-law, of which coders of 16-bit samples say nothing, it has that of i.i.d. levels.

    Args:
        manifest: of shards of recordings, with a validation part.
        data: settings of the data. Without dequantization, a density is not bounded by what coders reach.

    Returns:
        The line; empty if no frame of the validation part is scored.
    """
    rate, size = manifest.waveform.sample_rate, manifest.frame_size
    utterances = first_seconds(scored_frames(data.shards, "valid", data.score_first_frame), MOST_SECONDS * rate // size)
    longer = manifest.splits["valid"].frames * size > MOST_SECONDS * rate
    part = f"first {MOST_SECONDS} s of the validation part" if longer else "validation part"
    units = Units(size, manifest.waveform.deviation)
    measured = measure_waveforms(utterances, manifest, data)
    if not measured.longest:
        return ""
    if isinstance(measured, ScoredLevels):
        nats = measured.iid_levels_nats_per_frame
        bits = f"{units.bits_per_sample(nats):.3f} bits a sample of 8-bit mu-law"
        scores = [f"{nats:.1f} nats/frame by i.i.d. levels ({bits})"]
    else:
        references = measured.references
        scores = [f"{references.iid_gaussian_nats_per_frame:.1f} nats/frame by an i.i.d. Gaussian"]
        if manifest.is_dequantized(data):
            scores += [
                f"{units.nats_per_frame(bits):.1f} by {coder} ({bits:.3f} bits a sample)"
                for coder, bits in references.lossless_coders.items()
            ]
    return f"{part} without a model: {', '.join(scores)}; higher is better"


def first_seconds(utterances: Iterator[np.ndarray], frames: int) -> Iterator[np.ndarray]:
    """The first utterances that hold this many frames together, the last of them cut. Utterances are [frames, size]."""
    for utterance in utterances:
        if frames <= 0:
            return
        yield utterance[:frames]
        frames -= len(utterance)
