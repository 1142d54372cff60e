"""Exit with status 0 if the model of an experiment has latents, and with 1 otherwise."""

import sys
from pathlib import Path

from zfaudio.experiment.checkpoint import load_checkpoint

if __name__ == "__main__":
    sys.exit(0 if load_checkpoint(Path(sys.argv[1])).model.latent_size else 1)
