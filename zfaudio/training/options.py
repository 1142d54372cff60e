"""The command line of training: which settings `--model.*` has depends on the model that is named."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from zfaudio.errors import UserError
from zfaudio.experiment.config_file import (
    Settings,
    check_settings,
    model_name,
    overlay,
    read_settings,
)
from zfaudio.models.registry import find_model

Command = Callable[..., Any]


def with_model_settings(command: Command, arguments: list[str]) -> tuple[Command, list[str]]:
    """`command` with the settings of the model that `arguments` name, and arguments for it.

    Several `--config` files become one configuration, the later file on top of the earlier one; options such as
    `--model.hidden_size 256` win over all files. If a file or `--model.name` chooses another model than the files
    before, what these set for a model without such a setting is dropped.

    Args:
        command: a function with a parameter `model: ModelConfig`.
        arguments: the words of its command line.

    Raises:
        UserError: a file is missing or malformed, there is no such model, or it has no such setting.
    """
    files, options = take_option(arguments, "config")
    names, options = take_option(options, "model.name")
    settings: Settings = {}
    for file in files:
        settings = overlay(settings, read_settings(Path(file)))
    if names:
        settings = overlay(settings, {"model": {"name": names[-1]}})
    name = model_name(settings)
    for option in options:
        if option.startswith("--model."):
            setting = option.removeprefix("--model.").partition("=")[0].replace("-", "_")
            check_settings({"model": {"name": name, setting: None}}, option.partition("=")[0])
    settings = overlay(settings, {"model": {"name": name}})
    specialized = with_annotation(command, "model", find_model(name).config_class)
    return specialized, ["--config", as_yaml(settings), *options]


def as_yaml(settings: Settings) -> str:
    """Settings on one line of YAML, which has infinity, unlike JSON."""
    return yaml.safe_dump(settings, default_flow_style=True, width=float("inf")).strip()


def take_option(arguments: list[str], name: str) -> tuple[list[str], list[str]]:
    """The values of every `--name VALUE` or `--name=VALUE`, and the other words."""
    values, others, words = [], [], iter(arguments)
    for word in words:
        if word == f"--{name}":
            value = next(words, None)
            if value is None:
                raise UserError(f"--{name} needs a value")
            values.append(value)
        elif word.startswith(f"--{name}="):
            values.append(word.partition("=")[2])
        else:
            others.append(word)
    return values, others


def with_annotation(command: Command, name: str, annotation: type) -> Command:
    """The same function with another annotation of one parameter, from which jsonargparse makes its options."""

    @functools.wraps(command)
    def annotated(*args: Any, **kwargs: Any) -> Any:
        return command(*args, **kwargs)

    del annotated.__wrapped__
    signature = inspect.signature(command)
    parameters = signature.parameters | {name: signature.parameters[name].replace(annotation=annotation)}
    annotated.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    annotated.__annotations__ = command.__annotations__ | {name: annotation}
    return annotated
