"""The experiments of the page, of which one at a time is in memory."""

from collections.abc import Sequence
from typing import Any

from zfaudio.data.manifest import read_manifest
from zfaudio.device import DeviceName
from zfaudio.errors import UserError
from zfaudio.experiment import find_checkpoint
from zfaudio.experiment.hub_checkpoint import choose_local_or_hub
from zfaudio.observations import describe
from zfaudio.trained_model import TrainedModel, load


class Experiments:
    """Loads a model when it is asked for, and forgets the one before.

    Args:
        names: experiments or checkpoints, as `zfaudio.load` takes them; at least one.
        device: where to compute.

    Raises:
        UserError: there is no checkpoint, or it is of pictures or sentences.
    """

    def __init__(self, names: Sequence[str], device: DeviceName) -> None:
        self.names = list(dict.fromkeys(names))
        self._device = device
        for name in self.names:
            # Weights are read when they are needed.
            kind = read_manifest(str(find_checkpoint(choose_local_or_hub(name)))).kind
            if kind != "waveform":
                raise UserError(f"{name}: a model of {describe(kind)}, but the page plays speech; use zfaudio generate")
        self._loaded = self.names[0], load(self.names[0], device)

    def model(self, name: str) -> TrainedModel[Any]:
        """The model of an experiment. Raises UserError if it is none of the page's, or cannot be read (any more)."""
        if name not in self.names:  # a request may name anything
            raise UserError("no such experiment on this page; choose one of the list")
        if self._loaded[0] != name:
            self._loaded = name, load(name, self._device)
        return self._loaded[1]
