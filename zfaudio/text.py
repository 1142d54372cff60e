"""Text for people: numbers, and names that come from files and may hold anything."""

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
