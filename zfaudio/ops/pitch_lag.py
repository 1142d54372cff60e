"""The lag at which a signal is most like itself: in voiced speech the pitch period, or a multiple of it."""

import torch
import torch.nn.functional as F
from torch import Tensor

SILENCE = 1e-4  # of the corpus's power: the likeness of silence to silence says nothing

# Likeness is compared in steps of 1 / LIKENESS_STEPS, and of equals the shortest lag is taken. Without it, the rounding
# of sums would choose the lag of digital silence, and of other exactly periodic signals.
LIKENESS_STEPS = 4096.0


def pitch_lag(windows: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """The lag at which the second half of each window is most like what lies before it.

    Args:
        windows: [..., n].
        shortest: the shortest lag in samples; the longest is n // 2.

    Returns:
        The lag, int64 [..., 1], and the normalized autocorrelation there, between -1 and 1, [..., 1].
    """
    windows = windows.clone()  # the last bit of a Fourier transform depends on where in memory its input begins
    size = windows.shape[-1]
    half = size // 2
    recent = windows[..., size - half :].clone()
    length = 1 << (size + half).bit_length()
    spectrum = torch.fft.rfft(windows, length) * torch.fft.rfft(recent, length).conj()
    starts = slice(size - 2 * half, size - half - shortest + 1)  # of what the second half is compared with
    ends = slice(starts.start + half, starts.stop + half)
    products = torch.fft.irfft(spectrum, length)[..., starts]
    # In float64: behind a loud sound the power of a quiet one is a small difference of large sums.
    sums = F.pad(windows.square().cumsum(-1, dtype=torch.float64), (1, 0))
    energy = (sums[..., ends] - sums[..., starts]).clamp(min=0).to(windows.dtype)
    likeness = products / torch.sqrt(energy * recent.square().sum(-1, keepdim=True) + (SILENCE * half) ** 2)
    likeness = likeness.flip(-1)  # the shortest lag first
    place = torch.round(LIKENESS_STEPS * likeness).argmax(-1, keepdim=True)
    return shortest + place, likeness.gather(-1, place)
