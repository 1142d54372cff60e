"""Text for people: numbers, and names that come from files and may hold anything."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

UNDECODABLE = 0xDC00  # Python reads the byte b of a name that is not UTF-8 as the character UNDECODABLE + b


def printable(text: str, kept: str = "") -> str:
    r"""Text whose control characters are shown as escapes, as in `\x1b[31m`.

    A name from a file could otherwise color, move or overwrite what stands on a terminal, or turn the direction of the
    line. The same holds for bytes that are not UTF-8, which no file or terminal in UTF-8 can take.

    Args:
        text: any text.
        kept: control characters to leave as they are, such as a line feed.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in kept else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if UNDECODABLE + 0x80 <= code <= UNDECODABLE + 0xFF:
        return f"\\x{code - UNDECODABLE:02x}"
    return letter.encode("unicode_escape").decode("ascii")


@contextlib.contextmanager
def printable_streams() -> Iterator[None]:
    """Make `printable` whatever is written to stdout and stderr within the block. Progress bars still work."""
    with (
        contextlib.redirect_stdout(cast(TextIO, PrintableStream(sys.stdout))),
        contextlib.redirect_stderr(cast(TextIO, PrintableStream(sys.stderr))),
    ):
        yield


class PrintableStream:
    """A stream of text that writes control characters as escapes."""

    # What tqdm writes around its text: it returns to the start of the line, or moves up a line.
    CURSOR = re.compile(r"((?:\r|\n|\x1b\[A)*)(.*?)(\r?)", re.DOTALL)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        before, shown, after = cast(re.Match[str], self.CURSOR.fullmatch(text)).groups()
        self._stream.write(before + printable(shown, kept="\n\t") + after)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def format_number(value: float, digits: int, sign: str = "", commas: bool = False) -> str:
    """A number with this many decimals. What rounds to zero has no sign.

    Args:
        value: the number.
        digits: number of decimals.
        sign: "+" to show the sign of positive numbers too.
        commas: whether to write commas between thousands.
    """
    rounded = round(value, digits)
    return f"{0.0:.{digits}f}" if rounded == 0 else f"{rounded:{sign}{',' if commas else ''}.{digits}f}"
