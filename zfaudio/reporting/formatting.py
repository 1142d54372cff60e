"""Numbers and durations as a page shows them."""

from zfaudio.text import format_number


def typographic(text: str) -> str:
    """Text of a number with a typographic minus sign."""
    return text.replace("-", "−")


def page_number(value: float, digits: int, sign: str = "") -> str:
    """A number as `format_number` writes it, with a typographic minus sign."""
    return typographic(format_number(value, digits, sign, commas=True))


def page_interval(interval: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    """An interval, or a dash if there is none."""
    if interval is None:
        return "–"
    low, high = interval
    return f"{page_number(low, digits, sign)} to {page_number(high, digits, sign)}"


def format_duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds, depending on its length."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"
