"""Exit with status 0 if an experiment holds a checkpoint, and with 1 otherwise."""

import sys
from pathlib import Path

from zfaudio.experiment.checkpoint_search import holds_checkpoints

if __name__ == "__main__":
    sys.exit(0 if holds_checkpoints(Path(sys.argv[1])) else 1)
