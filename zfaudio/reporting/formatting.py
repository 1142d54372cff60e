"""Numbers and durations as a page shows them."""


def format_number(value: float, digits: int) -> str:
    """A number with this many decimals, commas between thousands, and a typographic minus sign."""
    return f"{value:,.{digits}f}".replace("-", "−")


def format_duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds, depending on its length."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"
