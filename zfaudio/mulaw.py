"""8-bit mu-law: 256 levels for a sample, finer for quiet samples than for loud ones.

As in WaveNet (van den Oord et al., 2016, section 2.2), and bit for bit as torchaudio.functional.mu_law_encoding has it:

    code = round(255 (f(x) + 1) / 2)      f(x) = sign(x) log(1 + 255 |x|) / log(256),  x = sample / 32768

and halves are rounded up. No level is 0: silence has code 128, whose level is 3. (The mu-law of telephones, G.711, is
made of straight segments and has other levels.)
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

CODES = 256
FULL_SCALE = 32768


def _encode(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The codes of samples in [-1, 1]."""
    companded = np.sign(samples) * np.log1p((CODES - 1) * np.abs(samples)) / np.log(CODES)
    codes: NDArray[np.uint8] = np.floor((companded + 1) / 2 * (CODES - 1) + 0.5).astype(np.uint8)
    return codes


def _decode(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The samples in [-1, 1] that codes stand for."""
    companded = 2 * codes / (CODES - 1) - 1
    samples: NDArray[np.float64] = np.sign(companded) * (CODES ** np.abs(companded) - 1) / (CODES - 1)
    return samples


# The 16-bit sample nearest to what each code stands for, int16 [256], and the code of each 16-bit sample from the
# lowest to the highest, uint8 [65536].
LEVELS = np.clip(np.rint(FULL_SCALE * _decode(np.arange(CODES))), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
LOG_WIDTHS = np.log(CODES) * np.abs(2 * np.arange(CODES) / (CODES - 1) - 1)  # of the steps, up to a constant
CODES_OF_SAMPLES = _encode(np.arange(-FULL_SCALE, FULL_SCALE) / FULL_SCALE)


def encode(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The codes of 16-bit samples of any shape."""
    codes: NDArray[np.uint8] = CODES_OF_SAMPLES[samples.astype(np.int32) + FULL_SCALE]
    return codes


def decode(codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The 16-bit samples that stand for codes: the levels."""
    levels: NDArray[np.int16] = LEVELS[codes]
    return levels


def to_levels(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """16-bit samples as they are after 8-bit mu-law. Levels stay what they are."""
    return decode(encode(samples))


# The same of tensors, by arithmetic alone, which a CUDA graph can record. Processes that make shards have no torch.


def encode_tensor(integers: "Tensor") -> "Tensor":
    """The codes, int64, of 16-bit samples in float64. What is louder than 16 bits is clipped."""
    samples = integers.clamp(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE
    companded = samples.sign() * ((CODES - 1) * samples.abs()).log1p() / math.log(CODES)
    return ((companded + 1) / 2 * (CODES - 1) + 0.5).floor().long().clamp(0, CODES - 1)


def decode_tensor(codes: "Tensor") -> "Tensor":
    """The levels, float64, that stand for codes in int64."""
    companded = 2 * codes.double() / (CODES - 1) - 1
    samples = companded.sign() * (math.log(CODES) * companded.abs()).expm1() / (CODES - 1)
    return (FULL_SCALE * samples).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
