"""Speed measurements, each side by side with a baseline in the same process."""

import os

# As in the command line (zfaudio/cli.py): threads that wait for work sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
