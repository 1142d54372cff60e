"""Text for people: numbers without a minus before nothing, and names that cannot act on a terminal."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from zfaudio.reporting.formatting import page_number
from zfaudio.text import PrintableStream, format_number, printable, printable_streams


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("speech", "speech"),
        ("Ünïcödé 語", "Ünïcödé 語"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("over\rwritten", r"over\rwritten"),
        ("two\nlines", r"two\nlines"),
        ("\x9b2J", r"\x9b2J"),
        ("turned\u202egnp.wav", r"turned\u202egnp.wav"),
        ("caf\udce9", r"caf\xe9"),  # a byte that is not UTF-8, as Python reads names
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_and_bytes_of_no_character_are_shown_as_escapes(name, shown):
    assert printable(name) == shown


@given(st.text(st.characters()), st.sampled_from(["", "\n", "\n\t"]))
def test_what_is_printed_can_be_encoded_and_controls_nothing(name, kept):
    shown = printable(name, kept)
    shown.encode()
    assert all(letter.isprintable() or letter in kept for letter in shown)
    assert printable(shown, kept) == shown


def test_what_a_command_writes_controls_nothing_but_progress_bars_work(capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with printable_streams():
        print("a name\x1b[2J\rgone\u202e", "\ta tab")
        print("\x1b]0;title\x07\udcff", file=sys.stderr)
    printed = capsys.readouterr()
    assert printed.out == r"a name\x1b[2J\rgone\u202e" + " \ta tab\n"
    assert printed.err == r"\x1b]0;title\x07\xff" + "\n"
    plain, wrapped = Terminal(), Terminal()
    for stream in (plain, wrapped):
        file = PrintableStream(stream) if stream is wrapped else stream
        for _ in tqdm(range(3), file=file, desc="outer", bar_format="{desc} {n}", disable=None, mininterval=0):
            list(tqdm(range(2), file=file, desc="inner", bar_format="{desc} {n}", leave=False, mininterval=0))
    assert wrapped.getvalue() == plain.getvalue()
    assert "\x1b[A" in plain.getvalue()


@pytest.mark.parametrize(
    ("value", "sign", "shown"),
    [
        (-0.004, "", "0.00"),
        (-0.0, "+", "0.00"),
        (0.001, "+", "0.00"),
        (-0.006, "+", "-0.01"),
        (0.006, "+", "+0.01"),
        (-1234.5, "", "-1234.50"),
        (float("nan"), "", "nan"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value, sign, shown):
    assert format_number(value, 2, sign) == shown


def test_numbers_of_a_page_have_commas_and_a_minus_sign():
    assert page_number(-1234.5, 1) == "−1,234.5"
    assert page_number(-0.01, 1) == "0.0"
