"""Speak text with the espeak-ng library that the wheel espeakng-loader carries."""

import contextlib
import ctypes
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zfaudio.errors import UserError

# Constants of speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
RATE, PITCH, PITCH_RANGE = 1, 3, 4
CHARS_UTF8 = 1
POS_CHARACTER = 1

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A way of speaking: accent and variant as in en-gb+f2, words a minute, pitch and its range from 0 to 99."""

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


@contextlib.contextmanager
def short_data_path() -> Iterator[str]:
    """A folder, for as long as the context lasts, in which espeak-ng finds its voices.

    espeak-ng cuts the path of its data after 160 characters, which a virtual environment in a deep folder exceeds; a
    link to it has a short one.

    Raises:
        UserError: espeakng-loader is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        (Path(folder) / "espeak-ng-data").symlink_to(loader().get_data_path())
        yield folder


def speak(text: str, voice: Voice, data: str) -> tuple[np.ndarray, int]:
    """The text as int16 [n], and its rate.

    The library has one state a process: no two threads may call it, and what it says depends, in the last detail,
    on all that the process had it say before.

    Args:
        text: a sentence.
        voice: who speaks.
        data: the folder that `short_data_path` gave.

    Raises:
        UserError: espeakng-loader is not installed, or has no such voice.
    """
    library, rate = load_library(data)
    if library.espeak_SetVoiceByName(voice.name.encode()):
        raise UserError(f"espeak-ng has no voice {voice.name}")
    library.espeak_SetParameter(RATE, voice.words_per_minute, 0)
    library.espeak_SetParameter(PITCH, voice.pitch, 0)
    library.espeak_SetParameter(PITCH_RANGE, voice.pitch_range, 0)
    blocks: list[np.ndarray] = []

    @CALLBACK
    def receive(samples: Any, count: int, events: int) -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    library.espeak_SetSynthCallback(receive)
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
    if status or not blocks:
        raise UserError(f"espeak-ng did not speak {text!r} (status {status})")
    return np.concatenate(blocks), rate


@functools.cache
def load_library(data: str) -> tuple[ctypes.CDLL, int]:
    """The library, ready, and the rate at which it speaks."""
    library = ctypes.CDLL(loader().get_library_path())
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
        raise UserError("espeak-ng does not find its voices; reinstall espeakng-loader")
    # Breath and roughness are random, by the clock unless told otherwise.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    return library, rate


def loader() -> Any:
    """The module espeakng_loader, which knows where the library and the voices are."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError("the demo corpus needs espeak-ng: pip install 'zfaudio[demo]'") from None
    return espeakng_loader
