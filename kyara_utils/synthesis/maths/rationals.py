"""A calculator over exact fractions: + - × ÷, powers, roots, per cent, brackets; nothing is ever evaluated as code.

Floats would call 0.1 + 0.2 = 0.3 wrong. Sizes are bounded, because what is computed was written by a model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

DIGITS = 18  # of one number
BITS = 4096  # of a result
POWER = 64
DEPTH = 24
SCALES = {"十": 10, "百": 100, "千": 1000, "萬": 10**4, "億": 10**8, "兆": 10**12}
OPERATORS = "+-×÷/*^"


class Unreadable(Exception):
    """The expression holds something that this calculator does not know."""


@dataclass(frozen=True)
class Token:
    """One piece of a sum. kind: number, unit, operator, open, close, root, percent, or anything else as itself."""

    kind: str
    text: str
    value: Fraction = Fraction(0)


def number(text: str) -> Fraction:
    """Return `12`, `0.5` or `.5` exactly. Raises `Unreadable` for more than 18 digits."""
    if sum(c.isdigit() for c in text) > DIGITS or not re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", text):
        raise Unreadable(text[:40])
    return Fraction(text)


def value_of(tokens: Sequence[Token]) -> Fraction:
    """Return the exact value of an infix expression; units are passed over.

    Raises `Unreadable` where it isn't one, at a division by zero, and beyond the bounds.
    """
    reader = _Reader([token for token in tokens if token.kind != "unit"])
    value = reader.sum(0)
    if reader.rest:
        raise Unreadable(reader.rest[0].text)
    return value


class _Reader:
    """Recursive descent: sum → product → power → atom."""

    def __init__(self, tokens: list[Token]):
        self.rest = tokens

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while (sign := self._take("+-")) is not None:
            other = self.product(depth)
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.signed(depth)
        while True:
            sign = self._take("×*÷/")
            if sign is None and not (self.rest and self.rest[0].kind in ("open", "root")):
                return value
            other = self.signed(depth)  # a bracket that follows at once multiplies
            if sign in ("÷", "/") and not other:
                raise Unreadable("division by zero")
            value = _bounded(value / other if sign in ("÷", "/") else value * other)

    def signed(self, depth: int) -> Fraction:
        if (sign := self._take("+-")) is not None:
            return -self.power(depth) if sign == "-" else self.power(depth)
        return self.power(depth)

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self._take("^") is None:
            return base
        exponent = self.signed(depth)
        if exponent.denominator != 1 or abs(exponent) > POWER or (not base and exponent < 0):
            raise Unreadable(f"power {exponent}")
        if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > BITS:
            raise Unreadable("too large")
        return base ** int(exponent)

    def atom(self, depth: int) -> Fraction:
        if not self.rest or depth > DEPTH:
            raise Unreadable("incomplete")
        token = self.rest.pop(0)
        if token.kind == "root":
            return self._percent(_root(self.atom(depth + 1)))
        if token.kind == "open":
            value = self.sum(depth + 1)
            if not self.rest or self.rest.pop(0).kind != "close":
                raise Unreadable("bracket")
            return self._percent(value)
        if token.kind != "number":
            raise Unreadable(token.text)
        return self._percent(token.value)

    def _percent(self, value: Fraction) -> Fraction:
        while self.rest and self.rest[0].kind == "percent":
            value /= 1000 if self.rest.pop(0).text == "‰" else 100
        return value

    def _take(self, signs: str) -> str | None:
        if self.rest and self.rest[0].kind == "operator" and self.rest[0].text in signs:
            return self.rest.pop(0).text
        return None


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise Unreadable("too large")
    return value


def _root(value: Fraction) -> Fraction:
    """The exact square root; `Unreadable` where there is none."""
    if value < 0:
        raise Unreadable("root of a negative number")
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise Unreadable("irrational root")
    return root
