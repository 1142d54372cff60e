"""What all tests share."""

import os
import tempfile

from hypothesis import settings

# No time limit on single examples: the first call of a kernel compiles it.
settings.register_profile("zfaudio", deadline=None)
settings.load_profile("zfaudio")

# Commands note the shards that were named to them in a file of the user's. Tests have one of their own.
_state = tempfile.TemporaryDirectory(prefix="zfaudio-tests-")
os.environ["XDG_STATE_HOME"] = _state.name

pytest_plugins = ["compare_fixtures", "hub_fixtures", "mulaw_fixtures"]
