"""Language variants of Chinese wikis, `-{zh-hans:甲;zh-hant:乙}-` in any nesting: the Traditional form is taken."""

import re

PREFERRED = ("zh-tw", "zh-hant", "zh-hk", "zh-mo", "zh")
FLAGS = re.compile(r"[A-Z;\s\-]*|\s*zh[a-z-]*(?:\s*;\s*zh[a-z-]*)*\s*")
PARTS = re.compile(r";(?=\s*(?:zh[a-z-]*\s*:|$|[^;:]*=>))")
FORM = re.compile(r"\s*(?:[^;:]*=>\s*)?(zh[a-z-]*)\s*:", re.I)
LONGEST = 5000  # characters between the marks; more is a mark that was never closed


def choose_variants(markup: str) -> str:
    """Replace every `-{…}-` by its Traditional form, inner ones first; marks without a partner stay as they are."""
    opened: list[list[str]] = [[]]
    starts: list[int] = []
    at = end = 0
    while (at := _next_mark(markup, at)) >= 0:
        opened[-1].append(markup[end:at])
        if markup.startswith("-{", at):
            opened.append([])
            starts.append(at)
        elif starts and at - starts[-1] <= LONGEST:
            inner = "".join(opened.pop())
            starts.pop()
            opened[-1].append(_variant(inner))
        else:
            opened[-1].append("}")
            end = at = at + 1
            continue
        end = at = at + 2
    opened[-1].append(markup[end:])
    return "-{".join("".join(parts) for parts in opened)


def _next_mark(markup: str, at: int) -> int:
    found = [position for mark in ("-{", "}-") if (position := markup.find(mark, at)) >= 0]
    return min(found, default=-1)


def _variant(body: str) -> str:
    """The form for Taiwan of `flags|zh-hans:甲;zh-hant:乙`, or the text itself; rules for other places show nothing."""
    flags, bar, rest = body.partition("|")
    if bar and FLAGS.fullmatch(flags):
        if set(flags) & set("TH-") and "zh" not in flags:
            return ""
        body = rest
    forms = {}
    for part in PARTS.split(body):
        if form := FORM.match(part):
            forms[form[1].lower()] = part[form.end() :].strip()
    return next((forms[name] for name in PREFERRED if name in forms), next(iter(forms.values()), body))
