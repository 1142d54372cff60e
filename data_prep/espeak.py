"""Speak text with the espeak-ng library, which the package espeakng-loader contains."""

import contextlib
import ctypes
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zfaudio.errors import UserError

# Constants from espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
RATE, PITCH, PITCH_RANGE = 1, 3, 4
CHARS_UTF8 = 1
POS_CHARACTER = 1

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A voice of espeak-ng and how it speaks."""

    name: str  # accent and variant, such as en-gb+f2
    words_per_minute: int
    pitch: int  # 0 to 99
    pitch_range: int  # 0 to 99


@contextlib.contextmanager
def short_data_path() -> Iterator[str]:
    """Make a temporary folder through which espeak-ng finds its voices.

    espeak-ng cuts off the path of its data after 160 characters, which is too short for a virtual environment in a deep
    folder. The temporary folder holds a link with a short path.

    Raises:
        UserError: espeakng-loader is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        (Path(folder) / "espeak-ng-data").symlink_to(import_loader().get_data_path())
        yield folder


def speak(text: str, voice: Voice, data: str) -> tuple[NDArray[np.int16], int]:
    """Speak a text.

    The library has one state per process. Two threads must not call it at the same time, and the details of its output
    depend on everything that the process has spoken before.

    Args:
        text: a sentence.
        voice: the voice to use.
        data: the folder from `short_data_path`.

    Returns:
        The waveform, int16 [samples], and its sample rate in Hz.

    Raises:
        UserError: espeakng-loader is not installed or has no such voice, or the text could not be spoken.
    """
    library, rate = load_library(data)
    if library.espeak_SetVoiceByName(voice.name.encode()):
        raise UserError(f"espeak-ng has no voice {voice.name}")
    library.espeak_SetParameter(RATE, voice.words_per_minute, 0)
    library.espeak_SetParameter(PITCH, voice.pitch, 0)
    library.espeak_SetParameter(PITCH_RANGE, voice.pitch_range, 0)
    blocks: list[NDArray[np.int16]] = []

    def receive(samples: Any, count: int, events: int) -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    callback = CALLBACK(receive)  # ctypes needs a reference to it for as long as the library may call it
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
    if status or not blocks:
        raise UserError(f"espeak-ng did not speak {text!r} (status {status})")
    return np.concatenate(blocks), rate


@functools.cache
def load_library(data: str) -> tuple[ctypes.CDLL, int]:
    """Load and initialize the library. Returns it with its sample rate in Hz."""
    library = ctypes.CDLL(import_loader().get_library_path())
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), INITIALIZE_DONT_EXIT)
    if rate <= 0:
        raise UserError("espeak-ng cannot find its voices; reinstall espeakng-loader")
    # The noise of breath and roughness is seeded by the clock unless a seed is set.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    return library, rate


def import_loader() -> Any:
    """Import espeakng_loader, which knows where the library and the voices are."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError("the demo corpus needs espeak-ng: pip install 'zfaudio[demo]'") from None
    return espeakng_loader
