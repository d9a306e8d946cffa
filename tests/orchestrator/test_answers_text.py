"""Comparison of answers as text, numbers and choices."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.answers.text import compare, normalise, quantity

SAME = [
    ("42", " 42. "),
    ("42", "$42$"),
    ("42", r"\boxed{42}"),
    (r"\frac{1}{2}", r"$\boxed{\dfrac{1}{2}}$"),
    ("1,234,567", "1234567"),
    ("$1,200", r"\$1200.00"),
    ("0.5", r"\frac{1}{2}"),
    ("-3/4", r"-\frac{3}{4}"),
    ("3 1/2", "3.5"),
    (r"2\frac{1}{4}", "2.25"),
    ("50%", r"50\%"),
    ("50%", "1/2"),
    ("+7", "7"),
    ("\N{MINUS SIGN}7", "-7"),
    ("5 cm", r"5\text{ cm}"),
    ("5 cm", "5"),
    (r"90^\circ", "90"),
    (r"\left( 1, 2 \right)", "(1,2)"),
    ("(B)", "B"),
    ("B.", "(b)"),
    (r"\text{Monday}", "monday"),
    ("7" * 400, f" {'7' * 400}."),
]

DIFFERENT = [
    ("42", "41"),
    ("1/3", "0.333"),
    ("5 cm", "5 m"),
    ("50%", "50"),
    ("A", "C"),
]

UNKNOWN = [("x+1", "1+x"), (r"\sqrt{4}", "2"), ("1/0", "2"), ("12 34", "1234"), ("x", "X"), ("", "0"), ("1,23", "123")]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str):
    """Decoration, the notation of numbers and the form of a choice do not matter, in either order."""
    assert compare(a, b) == compare(b, a) == "same"


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str):
    """Two numbers, quantities or choices that differ are different, in either order."""
    assert compare(a, b) == compare(b, a) == "different"


@pytest.mark.parametrize(("a", "b"), UNKNOWN)
def test_unknown(a: str, b: str):
    """Answers that need symbolic comparison are not guessed, in either order."""
    assert compare(a, b) == compare(b, a) == "unknown"


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_a_fraction_is_parsed_exactly(numerator: int, denominator: int):
    """A fraction has its exact value, whether written with a slash or in LaTeX."""
    sign = "-" if numerator < 0 else ""
    value = (Fraction(numerator, denominator), "")
    assert quantity(normalise(f"{numerator}/{denominator}")) == value
    assert quantity(normalise(rf"${sign}\dfrac{{{abs(numerator)}}}{{{denominator}}}$")) == value


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_integers_are_the_same_iff_equal(a: int, b: int):
    """Integers are compared by value, with or without commas between thousands."""
    assert compare(f"{a:,}", str(a)) == "same"
    assert compare(f"{a:,}", str(b)) == ("same" if a == b else "different")


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_compared_without_an_error(a: str, b: str):
    """For any text, comparison is symmetric, and a text is the same as itself."""
    assert compare(a, b) == compare(b, a)
    assert compare(a, a) == "same"
