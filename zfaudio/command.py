"""Turn a typed function into a command: its signature is the command line, its docstring the help."""

import inspect
import json
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any, get_origin

from zfaudio.errors import UserError


def run_command(function: Callable[..., Any], arguments: list[str], prog: str) -> None:
    """Call `function` with what `arguments` say; a `UserError` becomes one line and exit status 1.

    So does an option or a configuration that cannot be read, with exit status 2.

    Parameters without a default are positional, the others options; dashes and underscores in an option's
    name mean the same, and a bool option given without a value means true. A list takes one word after another.
    """
    from jsonargparse import ArgumentParser, auto_cli

    class Parser(ArgumentParser):
        """Shows lists as they are typed."""

        def format_help(self, *options: Any) -> str:
            for action in self._actions:
                if action.dest in lists_of(function):
                    action.metavar = f"{action.dest.upper()}..."
            return super().format_help(*options)

    try:
        auto_cli(
            function,
            args=spell_options(function, arguments),
            prog=prog,
            as_positional=True,
            exit_on_error=False,
            parser_class=Parser,
        )
    except ArgumentError as error:
        # The parser's own report puts a page of options before what is wrong.
        print(f"{prog}: error: {' '.join(str(error).split())}; see {prog} --help", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # A full disk or a forbidden folder is the user's to mend; the file's name is in the error.
        print(f"{prog}: error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        sys.exit(130)


def lists_of(function: Callable[..., Any]) -> set[str]:
    """Parameters that take a list or a tuple."""
    parameters = inspect.signature(function).parameters
    return {name for name, p in parameters.items() if get_origin(p.annotation) in (list, tuple, Sequence)}


def spell_options(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """`--allow-pipes` -> `--allow_pipes=true`, `--compare a b` -> `--compare ["a", "b"]`, as jsonargparse wants it."""
    parameters = inspect.signature(function).parameters
    switches = {name for name, p in parameters.items() if p.annotation is bool}
    lists = lists_of(function)
    positional_list = any(p.kind is p.POSITIONAL_OR_KEYWORD for name, p in parameters.items() if name in lists)
    spelled: list[str] = []
    words: list[str] = []  # of a positional list
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--"):
            (words if positional_list and argument != "-h" else spelled).append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name in lists:
            following = next((i for i, word in enumerate(waiting) if word.startswith("--")), len(waiting))
            spelled += [f"--{name}", json.dumps([value] if equals else waiting[:following])]
            del waiting[: 0 if equals else following]
        elif name in switches and not equals and waiting[:1] not in (["true"], ["false"]):
            spelled.append(f"--{name}=true")
        else:
            spelled.append(f"--{name}{equals}{value}")
            if not equals and waiting and not waiting[0].startswith("--"):
                spelled.append(waiting.pop(0))
    return [json.dumps(words), *spelled] if words else spelled


def command_line() -> str:
    """The command line of this process as one could type it again."""
    return shlex.join(["zfaudio" if sys.argv[0].endswith(("zfaudio", "__main__.py")) else sys.argv[0], *sys.argv[1:]])
