"""Which of the two files of gate arithmetic computes a step: ops/gates.py or ops/triton_gates.py."""

import os
import shutil
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from torch import Tensor

from zfaudio.ops import gates


def gates_for(like: Tensor) -> ModuleType:
    """The module whose functions are fastest where `like` is."""
    if like.is_cuda and triton_runs():
        from zfaudio.ops import triton_gates  # it imports Triton's compiler

        return triton_gates
    return gates


@cache
def triton_runs() -> bool:
    """Whether Triton is installed and finds the C compiler and Python's headers, with which it makes its launchers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return bool(find_spec("triton") and compiler and headers.exists())
