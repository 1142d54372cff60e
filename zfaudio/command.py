"""Turn a typed function into a command: its signature is the command line, its docstring the help."""

import inspect
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Callable
from typing import Any

from zfaudio.errors import UserError


def run_command(function: Callable[..., Any], arguments: list[str], prog: str) -> None:
    """Call `function` with what `arguments` say; a `UserError` becomes one line and exit status 1.

    So does an option or a configuration that cannot be read, with exit status 2.

    Parameters without a default are positional, the others options; dashes and underscores in an option's
    name mean the same, and a bool option given without a value means true.
    """
    from jsonargparse import auto_cli

    try:
        auto_cli(function, args=spell_options(function, arguments), prog=prog, as_positional=True, exit_on_error=False)
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


def spell_options(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """`--allow-pipes` -> `--allow_pipes true`, and so on, as jsonargparse wants them."""
    switches = {name for name, p in inspect.signature(function).parameters.items() if p.annotation is bool}
    spelled: list[str] = []
    for position, argument in enumerate(arguments):
        if not argument.startswith("--"):
            spelled.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        spelled.append(f"--{name}{equals}{value}")
        following = arguments[position + 1 : position + 2]
        if name in switches and not equals and following not in (["true"], ["false"]):
            spelled[-1] += "=true"
    return spelled


def command_line() -> str:
    """The command line of this process as one could type it again."""
    return shlex.join(["zfaudio" if sys.argv[0].endswith(("zfaudio", "__main__.py")) else sys.argv[0], *sys.argv[1:]])
