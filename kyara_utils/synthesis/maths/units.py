"""Units that turn into each other, so that 1.5 小時 = 90 分鐘 is right and 3 公斤 + 500 公克 adds up."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from kyara_utils.synthesis.maths.rationals import Token

DIMENSIONS: tuple[dict[str, Fraction], ...] = tuple(
    {name: Fraction(factor) for names, factor in table for name in names.split()}
    for table in (
        (("秒 秒鐘 s", 1), ("分鐘 min", 60), ("小時 鐘頭 h hr", 3600), ("天 日", 86400), ("週 周 星期 禮拜", 604800)),
        (("個月 月", 1), ("年", 12)),
        (("公釐 毫米 mm", 1), ("公分 厘米 cm", 10), ("公尺 米 m", 1000), ("公里 千米 km", 10**6)),
        (("毫克 mg", 1), ("公克 克 g", 1000), ("台斤 臺斤", 600_000), ("公斤 千克 kg", 10**6), ("公噸 噸", 10**9)),
        (("毫升 ml mL cc", 1), ("公升 升 L", 1000), ("立方公分", 1), ("立方公尺", 10**6)),
        (("平方公分 cm^2", 1), ("平方公尺 m^2", 10**4), ("公頃", 10**8), ("平方公里 km^2", 10**10)),
        (("個 顆 粒 支 枝 罐 瓶", 1), ("打", 12)),
    )
)


def scaled(tokens: Iterable[Token], dimension: dict[str, Fraction]) -> list[Token]:
    """Return the tokens with each number before a unit of this dimension turned into the smallest unit."""
    out: list[Token] = []
    for token in tokens:
        factor = dimension.get(token.text) if token.kind == "unit" else None
        if factor and out and out[-1].kind == "number":
            shared = [t.kind for t in out[-3:-1]] == ["number", "operator"] and out[-2].text in "÷/"  # (10/3)公里
            value = out[-1].value / factor if shared else out[-1].value * factor
            out[-1] = Token("number", out[-1].text, value)
        out.append(token)
    return out


def compounds(tokens: list[Token]) -> list[Token]:
    """Return the tokens with 3 公尺 20 公分 as 320 公分: amounts of one kind in a row, in falling units, are one."""
    out: list[Token] = []
    for token in tokens:
        out.append(token)
        if len(out) < 4 or out[-4].kind != "number" or out[-2].kind != "number":
            continue
        ratio = max((_ratio(out[-3].text, token.text, table) for table in DIMENSIONS), default=0)
        if ratio > 1:
            text, value = "".join(t.text for t in out[-4:-1]), out[-4].value * ratio + out[-2].value
            out[-4:] = [Token("number", text, value), replace(token, kind="unit")]
    return out


def _ratio(large: str, small: str, table: dict[str, Fraction]) -> Fraction:
    """How many of the smaller unit the larger one is; behind the smaller one a text may go on."""
    known = max((unit for unit in table if small.startswith(unit)), key=len, default="")
    return table[large] / table[known] if known and large in table else Fraction(0)


def dimension_of(tokens: Iterable[Token]) -> dict[str, Fraction] | None:
    """Return the one table that knows every known unit among the tokens, or None for none and for several."""
    units = {token.text for token in tokens if token.kind == "unit"}
    known = [table for table in DIMENSIONS if units & table.keys()]
    return known[0] if len(known) == 1 else None
