"""What all tests share."""

from hypothesis import settings

# No time limit on single examples: the first call of a kernel compiles it.
settings.register_profile("zfaudio", deadline=None)
settings.load_profile("zfaudio")
