"""What training.pt holds, checked field by field before any of it is used."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from zfaudio.experiment.checkpoint import tensor_fault
from zfaudio.models.base import FrameModel, RecurrentState
from zfaudio.training.interval import IntervalSums
from zfaudio.typed_json import parse_dataclass

AdamState = dict[int, dict[str, Tensor]]  # by the number of the parameter


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best: float | None = None  # best validation score, nats per frame
    skipped: int = 0  # steps whose loss or gradient was not finite
    skipped_in_a_row: int = 0
    collapsed: bool = False  # whether the last validation found the posterior collapsed

    def __post_init__(self) -> None:
        for name in ("step", "skipped", "skipped_in_a_row"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} is out of range")


@dataclass
class Plateau:
    """What the schedule of the learning rate remembers."""

    best: float  # best validation score, nats per frame
    num_bad_epochs: int  # validations without improvement
    last_epoch: int  # number of validations

    def __post_init__(self) -> None:
        for name in ("num_bad_epochs", "last_epoch"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} is out of range")


@dataclass
class ProcessState:
    """What belongs to one process."""

    stream: dict[str, Any]  # its position in the data, which the stream checks
    state: RecurrentState  # that its sequences carry along
    interval: IntervalSums | None  # since the last line of the log; None in checkpoints of zfaudio 0.1.0


@dataclass
class TrainingState:
    """A stopped run."""

    progress: Progress
    adam: AdamState
    learning_rate: float
    plateau: Plateau
    processes: list[ProcessState]


def parse_training(training: dict[str, Any], model: FrameModel) -> TrainingState:
    """The state of a stopped run from the content of training.pt.

    Args:
        training: the content, of which nothing is trusted.
        model: the model that was trained.

    Raises:
        ValueError: a field is missing, has another type, or does not fit the model; the message names it.
    """
    # Checkpoints of earlier versions lack the newest of these fields.
    own = {field.name: training[field.name] for field in fields(Progress) if field.name in training}
    progress: Progress = parse_dataclass(Progress, own)
    optimizer = entry(training, "optimizer", dict)
    schedule = entry(training, "schedule", dict)
    plateau = {field.name: schedule[field.name] for field in fields(Plateau) if field.name in schedule}
    return TrainingState(
        progress,
        parse_adam(optimizer, model, progress.step),
        parse_learning_rate(optimizer),
        parse_dataclass(Plateau, plateau, "schedule"),
        [
            parse_process(process, f"processes[{index}]", model)
            for index, process in enumerate(entry(training, "processes", list))
        ],
    )


def parse_adam(optimizer: dict[Any, Any], model: FrameModel, step: int) -> AdamState:
    """The moments of each parameter that Adam has moved, laid out in memory like the parameters.

    Adam's kernel reads and writes as many values as the parameter has, whatever the moments have.
    """
    parameters = list(model.parameters())
    state: AdamState = {}
    for number, moments in entry(optimizer, "state", dict, "optimizer.").items():
        name = f"optimizer.state[{str(number)[:40]}]"
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError(f"field {name} is not of a parameter")
        if not isinstance(moments, dict) or moments.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"field {name} does not hold step, exp_avg and exp_avg_sq")
        parameter = parameters[number].detach().cpu()
        steps = copy_like(torch.tensor(0.0), moments["step"], f"{name}.step")
        if not 0 <= steps.item() <= step:
            raise ValueError(f"field {name}.step is {steps.item()}, not a step up to {step}")
        averages = {key: copy_like(parameter, moments[key], f"{name}.{key}") for key in ("exp_avg", "exp_avg_sq")}
        state[number] = {"step": steps, **averages}
    return state


def parse_learning_rate(optimizer: dict[Any, Any]) -> float:
    """The learning rate that the run had reached."""
    groups = entry(optimizer, "param_groups", list, "optimizer.")
    if len(groups) != 1 or not isinstance(groups[0], dict):
        raise ValueError("field optimizer.param_groups is not a list of one group")
    rate: Any = groups[0].get("lr")
    if type(rate) not in (int, float) or not 0 <= rate < math.inf:
        raise ValueError(f"field optimizer.param_groups[0].lr is {str(rate)[:40]}, not a learning rate")
    return float(rate)


def parse_process(process: object, name: str, model: FrameModel) -> ProcessState:
    """What belongs to one process, with a state for as many sequences as its stream has."""
    if not isinstance(process, dict):
        raise ValueError(f"field {name} is {type(process).__name__}, not dict")
    stream: dict[str, Any] = entry(process, "stream", dict, f"{name}.")
    for key, value in entry(stream, "settings", dict, f"{name}.stream.").items():
        if type(value) not in (int, bool, float, str):
            raise ValueError(f"field {name}.stream.settings.{key} is {type(value).__name__}, not one of the settings")
    rows = len(entry(stream, "lanes", list, f"{name}.stream."))
    wanted = [part.detach().cpu() for part in model.initial_state(rows)]
    found = entry(process, "state", list, f"{name}.")
    if len(found) != len(wanted):
        raise ValueError(f"field {name}.state has {len(found)} parts, not {len(wanted)}")
    parts = enumerate(zip(wanted, found, strict=True))
    state = tuple(copy_like(like, part, f"{name}.state[{index}]") for index, (like, part) in parts)
    if process.get("interval") is None:
        return ProcessState(stream, state, None)
    interval = entry(process, "interval", dict, f"{name}.")
    return ProcessState(stream, state, parse_dataclass(IntervalSums, interval, f"{name}.interval"))


def entry(fields: dict[Any, Any], key: str, kind: type, prefix: str = "") -> Any:
    """A field of a certain type. Raises ValueError that names it if it is missing or of another type."""
    if key not in fields:
        raise ValueError(f"field {prefix}{key} is missing")
    if type(fields[key]) is not kind:
        raise ValueError(f"field {prefix}{key} is {type(fields[key]).__name__}, not {kind.__name__}")
    return fields[key]


def copy_like(wanted: Tensor, value: object, name: str) -> Tensor:
    """A copy of a tensor from a file, laid out in memory like `wanted`. Raises ValueError if it is another one."""
    if fault := tensor_fault(value, wanted):
        raise ValueError(f"field {name} {fault}")
    assert isinstance(value, Tensor)
    return torch.empty_like(wanted).copy_(value.detach())
