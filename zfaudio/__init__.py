"""Latent-variable models of raw speech: train them, score recordings, generate speech.

    import zfaudio

    model = zfaudio.load("recipes/demo/exp")
    speech = model.sample(num=4, seconds=3.0, seed=0)
    score = model.score("recording.flac")

The commands of the command line are functions here: `shard`, `train`, `evaluate`, `latents`, `generate`,
`interpolate`, `quality`, `compare`, `report` and `push`. Everything is imported when it is first used.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
