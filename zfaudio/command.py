"""Turn a typed function into a command: the signature becomes the command line, the docstring the help."""

import contextlib
import functools
import inspect
import json
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

from zfaudio.errors import UserError
from zfaudio.text import printable, printable_streams


def run_command(function: Callable[..., Any], arguments: list[str], prog: str) -> None:
    """Call a function with arguments from the command line.

    Parameters without a default are positional, all others are options. If the first one may be None, it may be left
    out. Dashes and underscores in the name of an option mean the same. An option for a bool may stand without a value,
    for true; an option for a list takes several words.
    A UserError or OSError becomes one line and exit status 1, arguments that cannot be parsed one line and status 2.

    Args:
        function: what to call; its return value is dropped.
        arguments: the words of the command line.
        prog: name of the command, for messages.
    """
    from jsonargparse import ArgumentParser, auto_cli, set_loader
    from yaml import YAMLError

    set_loader("words", read_word, exceptions=(YAMLError,))

    class Parser(ArgumentParser):
        """Shows lists in the help as they are typed."""

        def format_help(self, *options: Any) -> str:
            for action in self._actions:
                if action.dest in list_parameters(function):
                    action.metavar = f"{action.dest.upper()}..."
            return str(super().format_help(*options))

    try:
        auto_cli(
            printing_safely(function),
            args=for_jsonargparse(function, arguments),
            prog=prog,
            as_positional=True,
            exit_on_error=False,
            parser_class=Parser,
            parser_mode="words",
        )
    except ArgumentError as error:
        # jsonargparse would print a page of options before the error.
        print(f"{prog}: error: {printable(' '.join(str(error).split()))}; see {prog} --help", file=sys.stderr)
        sys.exit(2)
    except (UserError, OSError) as error:  # an OSError, such as a full disk, names the file itself
        print(f"{prog}: error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        sys.exit(130)


def printing_safely(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its output made printable: what it prints may hold names that come from files."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with printable_streams():
            return function(*arguments, **options)

    return wrapped


def list_parameters(function: Callable[..., Any]) -> set[str]:
    """Names of the parameters that take several values."""
    parameters = inspect.signature(function).parameters
    return {name for name, p in parameters.items() if get_origin(p.annotation) in (list, tuple, Sequence)}


def read_word(word: str) -> Any:
    """What jsonargparse reads in a word of the command line: a list that `for_jsonargparse` made, or else YAML.

    YAML can read neither every name in a list, nor a name that looks like a comment, such as `#1.json`.
    """
    from jsonargparse import get_loader

    if word.startswith('["'):
        with contextlib.suppress(ValueError):
            return json.loads(word)
    value = get_loader("yaml")(word)
    return word if value is None and word.strip().lower() not in ("", "~", "null") else value


def for_jsonargparse(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """Arguments as jsonargparse expects them.

    `--allow-pipes` becomes `--allow_pipes=true`, and `--compare a b` becomes `--compare ["a", "b"]`. A first word that
    is left out becomes an empty one.
    """
    parameters = inspect.signature(function).parameters
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    words = 0  # that are positional
    switches = {name for name, p in parameters.items() if p.annotation is bool}
    lists = list_parameters(function)
    positional_list = any(p.kind is p.POSITIONAL_OR_KEYWORD for name, p in parameters.items() if name in lists)
    translated: list[str] = []
    list_words: list[str] = []  # of a positional list
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith("--"):
            (list_words if positional_list and argument != "-h" else translated).append(argument)
            words += argument != "-h"
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name in lists:
            end = next((i for i, word in enumerate(remaining) if word.startswith("--")), len(remaining))
            translated += [f"--{name}", json.dumps([value] if equals else remaining[:end])]
            del remaining[: 0 if equals else end]
        elif name in switches and not equals and remaining[:1] not in (["true"], ["false"]):
            translated.append(f"--{name}=true")
        else:
            translated.append(f"--{name}{equals}{value}")
            if not equals and remaining and not remaining[0].startswith("--"):
                translated.append(remaining.pop(0))
    if words == len(positional) - 1 > 0 and type(None) in get_args(positional[0].annotation):
        translated.insert(0, "")
    return [json.dumps(list_words), *translated] if list_words else translated


def command_line() -> str:
    """The command line of this process, as one could type it again."""
    return shlex.join(["zfaudio" if sys.argv[0].endswith(("zfaudio", "__main__.py")) else sys.argv[0], *sys.argv[1:]])
