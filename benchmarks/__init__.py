"""Speed measurements, each side by side with a baseline in the same process."""

from zfaudio.environment import prepare_environment

prepare_environment()  # as the command `zfaudio` does, and for the baselines too
