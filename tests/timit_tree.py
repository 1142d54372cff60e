"""Short made-up sentences in the layout of TIMIT, as it is on the disc or in copies of it."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
SENTENCES = ("SA1", "SA2", "SI10", "SI11", "SI12", "SX1", "SX2", "SX3", "SX4", "SX5")


def lay_out(root: Path, train: list[str], test: list[str], lower: bool = False, riff: bool = False) -> Path:
    """Write a TIMIT tree with ten short sentences per speaker, and return its root."""
    for part, speakers in (("TRAIN", train), ("TEST", test)):
        for speaker in speakers:
            for name in SENTENCES:
                suffix = ".WAV.wav" if riff else ".WAV"
                path = Path("TIMIT", part, "DR1", speaker, name + suffix)
                path = root / (str(path).lower() if lower else path)
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = np.random.default_rng([*speaker.encode(), *name.encode()]).integers(-999, 999, 400)
                soundfile.write(path, samples.astype(np.int16), RATE, "PCM_16", format="WAV" if riff else "NIST")
                text, phones = (s.lower() if lower else s for s in (".TXT", ".PHN"))
                stem = path.name.split(".")[0]
                (path.parent / (stem + text)).write_text(f"0 400 The words of {name}.\n")
                (path.parent / (stem + phones)).write_text("0 160 h#\n160 400 sh\n")
    return root
