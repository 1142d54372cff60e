"""Speed measurements, each compared with a baseline that runs in the same process."""

from zfaudio.environment import prepare_environment

prepare_environment()  # the same for the baselines as for zfaudio
