"""Configuration files: YAML that `zfaudio train --config` reads, and that checkpoints keep."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from zfaudio.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainConfig, ZForcingConfig
from zfaudio.errors import UserError
from zfaudio.files import write_text
from zfaudio.models.registry import find_model
from zfaudio.text import printable
from zfaudio.typed_json import parse_dataclass

FORMAT_VERSION = 2

# Of a configuration file; those of the recipes have some 50 values.
LARGEST_FILE = 1_000_000  # bytes
MOST_VALUES = 10_000
KINDS_OF_VALUES = {"str", "int", "float", "bool", "null", "seq", "map", "merge"}

# Version 1 held these settings for every model, whether the model had them or not.
SETTINGS_OF_VERSION_1 = {
    *("name", "hidden_size", "latent_size", "embedding_size", "mlp_size", "likelihood", "components", "min_deviation"),
    *("head", "head_window", "head_size", "head_stride", "auxiliary", "auxiliary_cost", "backward_reconstruction"),
    *("conditional_layer_norm", "smoothing", "residual_posterior", "core"),
}

SECTIONS = {"model": ModelConfig, "objective": ObjectiveConfig, "data": DataConfig, "train": TrainConfig}

Settings = dict[str, dict[str, Any]]  # section -> name -> value


def write_config(config: RunConfig, path: Path) -> None:
    """Write a configuration as YAML that `read_config` and `zfaudio train --config` read."""
    write_text(path, config_text(config))


def config_text(config: RunConfig) -> str:
    """The content of a configuration file."""
    return yaml.safe_dump({"format_version": FORMAT_VERSION, **asdict(config)}, sort_keys=False)


def read_config(path: Path) -> RunConfig:
    """The configuration of a checkpoint or experiment, which has no base.

    Raises:
        UserError: the file is missing, is not YAML, or holds settings that this version does not know.
    """
    settings = read_settings(path, may_have_base=False)
    try:
        return RunConfig(
            model=parse_dataclass(find_model(model_name(settings)).config_class, settings["model"], "model"),
            objective=parse_dataclass(ObjectiveConfig, settings["objective"], "objective"),
            data=parse_dataclass(DataConfig, settings["data"], "data"),
            train=parse_dataclass(TrainConfig, settings["train"], "train"),
        )
    except KeyError as error:
        raise UserError(f"{path}: not the configuration of a run: section {error} is missing") from None
    except ValueError as error:
        raise UserError(f"{path}: not a configuration that this version of zfaudio reads: {error}") from None
    except UserError as error:  # a setting outside its range
        raise UserError(f"{path}: {error}") from None


def read_settings(path: Path, above: tuple[Path, ...] = (), may_have_base: bool = True) -> Settings:
    """The settings in a file, on top of those of the file that its `base` names (relative to its folder).

    Args:
        path: the file.
        above: the files that have this one as their base.
        may_have_base: whether a base is read. Files that a run wrote have none, and one from a stranger must not
            choose what is opened.

    Raises:
        UserError: the file or its base is missing or malformed, or sets what its model does not have.
    """
    if path.resolve() in above:
        raise UserError(f"{above[-1]}: its base leads back to itself")
    content = read_yaml(path)
    version = content.pop("format_version", 1)
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: format_version is {str(version)[:40]!r}, not a version")
    if version > FORMAT_VERSION:
        raise UserError(f"{path}: format_version {str(version)[:40]} is of a newer zfaudio; update it")
    base = content.pop("base", None)
    if base is not None and type(base) is not str:
        raise UserError(f"{path}: base is {str(base)[:40]!r}, not the path of a file")
    if base is not None and not may_have_base:
        raise UserError(f"{path}: not a configuration that a run wrote: it has a base, {base[:40]!r}")
    if not all(isinstance(section, dict) for section in content.values()):
        raise UserError(f"{path}: not a configuration; it holds sections such as model, train and data")
    if "name" in content.get("model", {}):
        check_model_name(content["model"]["name"], path)
    own = of_this_version(content)
    settings = own if base is None else overlay(read_settings(path.parent / base, (*above, path.resolve())), own)
    check_settings(settings, str(path))
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file. Raises UserError if it is missing, not YAML, or too large for a configuration."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file")  # a pipe would never end
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"larger than {LARGEST_FILE} bytes")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        check_values(node)
        content = loader.construct_document(node) if node is not None else {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, OverflowError, RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = printable(" ".join(str(error).split()))[:200]
        raise UserError(f"{path}: not a configuration: not YAML ({reason})") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path}: not a configuration; it holds sections such as model, train and data")
    return content


def check_values(root: yaml.Node | None) -> None:
    """Check a YAML document before it is turned into Python values.

    Raises:
        ValueError: it has too many values when its references are followed, as YAML bombs have, or values of types that
            no setting has, such as dates.
    """
    waiting, count = [root], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        kind = node.tag.removeprefix("tag:yaml.org,2002:") if node is not None else "null"
        if kind not in KINDS_OF_VALUES:
            raise ValueError(f"a value of type {kind}")
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def of_this_version(settings: Settings) -> Settings:
    """Settings of any version as this version spells them."""
    model = dict(settings.get("model", {}))
    if model.get("head") == "factorised":
        model["head"] = "factorized"
    if model.keys() >= SETTINGS_OF_VERSION_1:
        own = model_settings(model["name"])
        model = {name: value for name, value in model.items() if name in own}
    return {**settings, "model": model} if "model" in settings else settings


def overlay(settings: Settings, changes: Settings) -> Settings:
    """`settings` with `changes` on top. If these name another model, settings that it does not have are dropped."""
    merged = {section: dict(values) for section, values in settings.items()}
    changed_model = changes.get("model", {}).get("name")
    if changed_model and changed_model != model_name(settings):
        own = model_settings(changed_model)
        merged["model"] = {name: value for name, value in merged.get("model", {}).items() if name in own}
    for section, values in changes.items():
        merged[section] = {**merged.get(section, {}), **values}
    return merged


def model_name(settings: Settings) -> str:
    """The model that settings name, or the default one."""
    return str(settings.get("model", {}).get("name", ZForcingConfig.name))


def model_settings(name: str) -> set[str]:
    """The settings that a model has."""
    return {field.name for field in fields(find_model(name).config_class)}


def check_model_name(name: Any, path: Path) -> None:
    """Raises UserError that names the file if there is no such model."""
    if type(name) is not str:
        raise UserError(f"{path}: model.name is {str(name)[:40]!r}; it must be a text")
    try:
        find_model(name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def check_settings(settings: Settings, source: str) -> None:
    """Raises UserError if there is no such section, or if a section holds a setting that it does not have."""
    for section, values in settings.items():
        if section not in SECTIONS:
            raise UserError(f"{source}: there is no section {section}; sections are {', '.join(SECTIONS)}")
        if section == "model":
            what, own = f"model {model_name(settings)}", model_settings(model_name(settings))
        else:
            what, own = section, {field.name for field in fields(SECTIONS[section])}
        unknown = [name for name in values if name not in own]
        if unknown:
            known = ", ".join(sorted(own - {"name"}))
            raise UserError(f"{source}: {what} has no setting {', '.join(map(str, unknown))}; it has {known}")
