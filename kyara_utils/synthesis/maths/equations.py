"""Find every equation in a text and compute it anew: right, wrong, or unverified where a word or letter takes part.

A sum is read with its whole left side: `0.5×4=20` must not pass as `5×4=20`, nor `(10-4)×2+3=5` as `2+3=5`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from kyara_utils.synthesis.maths.clock import clock_equations
from kyara_utils.synthesis.maths.notation import plain_notation
from kyara_utils.synthesis.maths.rationals import Token, Unreadable, value_of
from kyara_utils.synthesis.maths.tokens import joins, tokenize
from kyara_utils.synthesis.maths.units import compounds, dimension_of, scaled

RIGHT, WRONG, UNVERIFIED = "right", "wrong", "unverified"
LONGEST_SIDE = 80  # tokens
NAMES = ("word", "unit", "number", "close", "remainder")  # before a sign that is then no sign of a negative number


@dataclass(frozen=True)
class Equation:
    """One equation: its text, what recomputing says, the numbers on the left, the value on the right."""

    text: str
    verdict: str
    operands: tuple[Fraction, ...] = ()
    result: Fraction | None = None
    rest: Fraction | None = None  # of a division


def equations(text: str) -> list[Equation]:
    """Return the equations of a text in order; a definition such as `x = 5` is none."""
    plain, found = clock_equations(plain_notation(text))
    timed = [Equation(written, RIGHT if right else WRONG) for written, right in found]
    return timed + [equation for segment in _segments(tokenize(plain)) for equation in _chain(segment)]


def _segments(tokens: Sequence[Token]) -> Iterator[list[list[Token]]]:
    """Yield the sides of each run that holds a sign of equality: [[left], [middle], …, [right]], signs in front."""
    sides: list[list[Token]] = [[]]
    for token in [*tokens, Token("stop", "")]:
        if token.kind == "stop":
            if len(sides) > 1:
                yield sides
            sides = [[]]
        elif token.kind == "equals":
            sides.append([token])
        else:
            sides[-1].append(token)


def _chain(sides: list[list[Token]]) -> Iterator[Equation]:
    for before, after in zip(sides, sides[1:], strict=False):
        left = [token for token in before if token.kind != "equals"][-LONGEST_SIDE:]
        equation = _equation(left, after[1:LONGEST_SIDE], after[0].text)
        if equation:
            yield equation


def _equation(before: list[Token], after: list[Token], sign: str) -> Equation | None:
    before, after = compounds(before), compounds(after)
    left = _longest(before, lambda size: before[len(before) - size :])
    right = _longest(after, lambda size: after[:size])
    if not left or not right:
        return None
    text = "".join(token.text for token in [*left, Token("equals", sign), *right])
    ahead = before[len(before) - len(left) - 1] if len(left) < len(before) else None
    rest = after[len(right) :]
    result = value_of(right)
    operands = tuple(token.value for token in left if token.kind == "number")
    if _partial(left, ahead) or joins(rest[0] if rest else None):
        return Equation(text, UNVERIFIED, operands, result)
    if len(rest) > 1 and rest[0].kind == "remainder" and rest[1].kind == "number":
        return Equation(text, _remainder(left, result, rest[1].value), operands, result, rest[1].value)
    verdict = _verdict(left, right, sign)
    return Equation(text, verdict, operands, result) if verdict else None


def _longest(tokens: list[Token], part: Callable[[int], list[Token]]) -> list[Token]:
    """The longest part at the sign of equality that can be computed, or []."""
    for size in range(len(tokens), 0, -1):
        chosen = part(size)
        try:
            value_of(chosen)
        except Unreadable:
            continue
        return chosen
    return []


def _partial(left: list[Token], ahead: Token | None) -> bool:
    """Whether the left side goes on to the left of what could be read: 單價×5, x-3, 剩下的-5, 1+2+…+9."""
    minus = left[0].kind == "operator" and ahead is not None and ahead.kind in NAMES
    return joins(ahead) or minus or (ahead is not None and ahead.kind == "root")


def _verdict(left: list[Token], right: list[Token], sign: str) -> str:
    computed = any(token.kind in ("operator", "root") for token in [*left, *right])
    one, two = value_of(left), value_of(right)
    if one == two:
        return RIGHT if computed else ""
    rounded = _equal(one, two, right, sign) or (sign == "≈" and _equal(two, one, left, sign))  # 66.7% ≈ 2/3
    if rounded or _converted(left, right, sign) or _hundredfold(left, right, one, two):
        return RIGHT
    return WRONG if computed or _comparable(left, right) else UNVERIFIED


def _comparable(left: list[Token], right: list[Token]) -> bool:
    """Whether both sides carry units of one kind, so that 2.5 小時 = 160 分鐘 is wrong and 3 個 = 6 元 a rate."""
    table = dimension_of([*left, *right])
    sides = [[token.text for token in side if token.kind == "unit"] for side in (left, right)]
    return bool(table) and all(units and set(units) <= table.keys() for units in sides)


def _equal(one: Fraction, two: Fraction, right: list[Token], sign: str) -> bool:
    """Equal, or rounded: to the decimals written, with ≈ also to whole tens and hundreds."""
    if one == two:
        return True
    if sum(token.kind == "number" for token in right) != 1:
        return False
    written = next(token.text for token in right if token.kind == "number")
    decimals = len(written.partition(".")[2]) if written.replace(".", "").isdigit() else 0
    percent = 100 if any(token.kind == "percent" for token in right) else 1
    if not decimals and sign != "≈" and not (percent > 1 and _endless(one)):
        return False
    zeros = 0 if decimals else len(written) - len(written.rstrip("0"))
    step = Fraction(10) ** (zeros - decimals) / percent
    return abs(one - two) <= step / 2 or (bool(decimals) and _endless(one) and 0 <= abs(one) - abs(two) < step)


def _endless(value: Fraction) -> bool:
    """Whether the decimals never end, so that any written form is rounded."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest != 1


def _converted(left: list[Token], right: list[Token], sign: str) -> bool:
    table = dimension_of([*left, *right])
    if not table:
        return False
    try:
        return _equal(value_of(scaled(left, table)), value_of(scaled(right, table)), right, "=")
    except Unreadable:
        return False


def _hundredfold(left: list[Token], right: list[Token], one: Fraction, two: Fraction) -> bool:
    """`30÷200×100=15%`, which people write for a share of 15 %."""
    times = any(token.kind == "number" and token.value == 100 for token in left)
    return times and any(token.kind == "percent" for token in right) and _equal(one, two * 100, [], "=")


def _remainder(left: list[Token], quotient: Fraction, rest: Fraction) -> str:
    """`17÷5=3餘2` by 17 = 5 × 3 + 2."""
    numbers = [token for token in left if token.kind != "unit"]
    if [token.kind for token in numbers] != ["number", "operator", "number"] or numbers[1].text not in "÷/":
        return UNVERIFIED
    whole, divisor = numbers[0].value, numbers[2].value
    return RIGHT if divisor * quotient + rest == whole and 0 <= rest < divisor else WRONG
