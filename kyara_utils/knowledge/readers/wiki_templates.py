"""What MediaWiki's templates show: their value where it is known, nothing for notes, else a hole that is marked.

A template inside a sentence is part of what it says: 全縣共有{{formatnum:18}}個鄉鎮 without it is no fact. Names are
those of the Chinese and English Wikipedia.
"""

import re
from collections.abc import Callable
from typing import Any

from kyara_utils.knowledge.readers.block_text import LOWERED, RAISED, script

HOLE = "\ue010"  # stands where a template stood of which nobody knows what it shows
NOTES = (  # names of notes and furniture, as expressions
    "cite .*", "citation.*", "cite", "sfn.*", "harv.*", "refn?", "rp?", "efn.*", "note.*", "ref .*",
    "reflist.*", "來源請求", "fact", "cn", "who", "when", "where", "which", "clarify.*", "dubious.*",
    "更新", "update.*", "vague", "by whom", "需要.*", "page needed", "unreliable.*", "dead link",
    "failed verification", "verify.*", "webarchive", "clear", "-", "main", "see ?also", "further", "about",
    "otheruses", "主條目", "参见", "參見", "另見", "分類.*", "defaultsort:.*", "displaytitle:.*",
    "flagicon.*", "anchor", "toc.*", "pp-.*", ".{2} icon", "in lang", "listen", "ipac-.*", "respell",
    "portal.*", "authority control", "short description", "use .* dates", "disambiguation needed",
    "tracklist", "redirect.*", "ntsh", "hs", "sort ?key.*", "0", "infobox.*", "navbox.*", ".* stub", ".*小作品",
)  # fmt: skip
SILENT = re.compile("|".join(NOTES), re.I)
FIRST = {
    *"nowrap nobr small big abbr smaller larger font center left right bold strong em mvar math ipa kbd key".split(),
    *"code keypress tt flag flagcountry flagu flaglink quote cquote blockquote 引用 linktext jpn".split(),
    *"zh-hans zh-hant vanchor num strikethrough s del nobold noitalic sic lower upper".split(),
    *("visible anchor", "not a typo", "nts", "number table sorting", "ntsc"),
}
LAST = {"color", "font color", "fontcolor", "colored text", "transl", "transliteration", "bg", "background color"}
SECOND = {"lang", "langx", "audio", "rtl-lang"}
LINKS = re.compile(r"link-..|le|tsl|illm?|interlanguage link|internal link helper.*|li|lang link", re.I)
SIGNS = {"!": "|", "=": "=", "nbsp": " ", "sp": " ", "gap": " ", "yes": "是", "no": "否", "°c": "°C", "deg": "°"}
SIGNS |= {sign: sign for sign in "×÷±−≈≤≥→←"}
SIGNS |= {"ndash": "–", "mdash": "—", "--": "—", "·": "·", "dot": "·", "*": "•", "increase": "▲", "decrease": "▼"}
LISTS = {"plainlist", "flatlist", "hlist", "ubl", "unbulleted list", "ublist", "bulleted list", "flat list"}
MONEY = {
    "twd": "新臺幣",
    "ntd": "新臺幣",
    "rmb": "人民幣",
    "cny": "人民幣",
    "usd": "US$",
    "jpy": "¥",
    "eur": "€",
    "gbp": "£",
}
MONEY |= {sign: sign.upper() for sign in ("nt$", "us$", "hk$", "a$", "s$", "$", "¥", "€", "£", "₩")}
COUNTRIES = dict(
    pair.split("=")
    for pair in (
        "twn=中華民國 roc=中華民國 chn=中國 prc=中國 hkg=香港 mac=澳門 jpn=日本 kor=韓國 prk=朝鮮 usa=美國 can=加拿大 "
        "gbr=英國 uk=英國 fra=法國 deu=德國 ger=德國 ita=義大利 esp=西班牙 nld=荷蘭 rus=俄羅斯 urs=蘇聯 ind=印度 "
        "sgp=新加坡 mys=馬來西亞 tha=泰國 vnm=越南 phl=菲律賓 idn=印尼 aus=澳洲 nzl=紐西蘭 bra=巴西"
    ).split()
)
RANGES = {"to": "–", "-": "–", "–": "–", "and": "及", "x": "×", "by": "×", "+/-": "±", "±": "±", "or": "或", "至": "至"}
NUMBER = re.compile(r"[\d.,+\-−/⁄ ]+")


def shown(name: str, values: list[str], named: dict[str, str]) -> str:
    """Return what a template shows, from its positional values and named ones, all as text; `HOLE` where unknown."""
    name = re.sub(r"[\s_]+", " ", name.strip()).lower()
    head, colon, rest = name.partition(":")
    if colon and head in ("formatnum", "lc", "uc", "lcfirst", "ucfirst", "padleft", "plural"):
        return rest.partition("|")[0].strip()
    if sign := SIGNS.get(name) or COUNTRIES.get(name):
        return sign
    if SILENT.fullmatch(name):
        return ""
    if name in MONEY and values:
        return MONEY[name] + "".join(values[:1])
    for names, at in ((FIRST, 0), (SECOND, 1), (LAST, -1)):
        if name in names:
            return values[at] if len(values) > max(at, 0) else named.get("text", HOLE)
    if name.startswith("lang-"):
        return values[0] if values else HOLE
    if LINKS.fullmatch(name):
        return _link(name, values, named)
    if name in LISTS:
        return "、".join(re.sub(r"(?m)^\s*\*\s*", "", v).strip().replace("\n", "、") for v in values) or HOLE
    try:
        return SHOWN[name](values, named)
    except (KeyError, IndexError):
        return HOLE


def _link(name: str, values: list[str], named: dict[str, str]) -> str:
    """The local name, or the words shown in its place."""
    if named.get("lt") or named.get("d"):
        return named.get("lt") or named["d"]
    if name == "tsl":
        return next((v for v in (*values[3:4], *values[2:3], *values[1:2]) if v), HOLE)
    return next((v for v in (*(values[2:3] if name.startswith(("link-", "le")) else []), *values[:1]) if v), HOLE)


def _convert(values: list[str], named: dict[str, str]) -> str:
    """`5|km|mi` is "5 km", `5|to|10|km` "5–10 km"; `6|ft|2|in` keeps both units."""
    parts, at = [], 0
    while at < len(values) and (NUMBER.fullmatch(values[at]) or values[at].lower() in RANGES):
        parts.append(RANGES.get(values[at].lower(), values[at]))
        at += 1
    unit = values[at] if at < len(values) else ""
    second = ""
    if len(values) > at + 2 and NUMBER.fullmatch(values[at + 1]):
        second = f" {values[at + 1]} {values[at + 2]}"
    return f"{''.join(parts)} {unit}{second}".strip() if parts else HOLE


def _val(values: list[str], named: dict[str, str]) -> str:
    """`1.5|0.2|e=3|u=m/s` is "(1.5±0.2)×10³ m/s"."""
    number = "".join(values[:2]) if values[1:2] and values[1].startswith("(") else "±".join(values[:2])
    if len(values) == 3:
        number = f"{values[0]}+{values[1]}−{values[2]}"
    power = named.get("e", "")
    if power:
        number = (f"({number})" if "±" in number else number) + f"×10{script(power, RAISED, '^')}"
    unit = named.get("u") or named.get("ul") or ""
    below = named.get("up") or named.get("upl")
    number = named.get("p", "") + number + named.get("s", "")
    return f"{number} {unit}{'/' + below if below else ''}".strip()


def _fraction(values: list[str], named: dict[str, str]) -> str:
    if len(values) == 3:
        return f"{values[0]}又{values[1]}/{values[2]}"
    return "/".join(values[:2]) if len(values) == 2 else f"1/{values[0]}"


def _date(values: list[str], named: dict[str, str]) -> str:
    parts = [value.lstrip("0") + unit for value, unit in zip(values, "年月日", strict=False) if value.isdigit()]
    return "".join(parts) or HOLE


def _coordinates(values: list[str], named: dict[str, str]) -> str:
    """`25|2|N|121|38|E` is 25°2′N 121°38′E; coordinates that stand beside the title are no part of the text."""
    if named.get("display") in ("title", "t"):
        return ""
    marks, found = iter("°′″"), ""
    for value in values:
        if value.upper() in ("N", "S", "E", "W"):
            found, marks = found + value.upper() + " ", iter("°′″")
        elif NUMBER.fullmatch(value):
            found += value + next(marks, " ")
    return found.strip() or HOLE


def _life(values: list[str], named: dict[str, str]) -> str:
    """{{bd|1900年|1月1日|1980年|2月3日}}"""
    born, died = "".join(values[:2]), "".join(values[2:4])
    return f"（{born}－{died}）"


def _chemistry(values: list[str], named: dict[str, str]) -> str:
    return "".join(script(v, LOWERED, "_") if v.isdigit() else v for v in values)


SHOWN: dict[str, Callable[[list[str], dict[str, str]], str]] = {
    **dict.fromkeys(("convert", "cvt", "convert2"), _convert),
    **dict.fromkeys(("val", "value"), _val),
    **dict.fromkeys(("frac", "fraction", "sfrac", "分數"), _fraction),
    **dict.fromkeys(("birth date", "birth date and age", "bda", "death date", "start date", "end date", "date"), _date),
    "coord": _coordinates,
    "gaps": lambda values, named: "".join(values) or HOLE,
    "sort": lambda values, named: values[-1],
    **dict.fromkeys(("death date and age", "dda"), lambda values, named: _date(values[:3], named)),
    **dict.fromkeys(("bd", "生卒"), _life),
    **dict.fromkeys(("chem", "chem2", "化學式"), _chemistry),
    **dict.fromkeys(("circa", "c.", "ca"), lambda values, named: "約" + "".join(values[:1])),
    **dict.fromkeys(("sup", "^"), lambda values, named: script(values[0], RAISED, "^")),
    **dict.fromkeys(("sub", "_"), lambda values, named: script(values[0], LOWERED, "_")),
    **dict.fromkeys(("e", "10^"), lambda values, named: "×10" + script(values[0], RAISED, "^")),
    "ruby": lambda values, named: f"{values[0]}({values[1]})" if len(values) > 1 else values[0],
    "nihongo": lambda values, named: (
        f"{values[0]}（{'，'.join(v for v in values[1:3] if v)}）" if len(values) > 1 else values[0]
    ),
    "zh": lambda values, named: "，".join(dict.fromkeys([*named.values(), *values])) or HOLE,
    "as of": lambda values, named: "截至" + _date(values, named),
    "isbn": lambda values, named: "ISBN " + values[0],
    "su": lambda values, named: script(named.get("b", ""), LOWERED, "_") + script(named.get("p", ""), RAISED, "^"),
    "unichar": lambda values, named: f"U+{values[0]}",
}


def values_of(template: Any, text: Callable[[Any], str]) -> tuple[str, list[str], dict[str, str]]:
    """Name, positional and named values of a parsed template; empty ones at the end fall away."""
    values: dict[int, str] = {}
    named: dict[str, str] = {}
    for parameter in template.params:
        key = str(parameter.name).strip()
        value = text(parameter.value).strip()
        if key.isdigit() and (not parameter.showkey or int(key) <= 20):
            values[int(key)] = value
        else:
            named[key.lower()] = value
    found = [values.get(at, "") for at in range(1, max(values, default=0) + 1)]
    while found and not found[-1]:
        found.pop()
    name = text(template.name) if "{{" in str(template.name) else str(template.name)
    return name, found, named
