"""Citations as text: reading titles and 【id】 out of an answer, writing ids into it, and checking that they hold."""

import re
from collections.abc import Iterable

from kyara_utils.llm import Response
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import passage, sentences
from kyara_utils.synthesis.overlap import overlap
from kyara_utils.text.citation_form import CITATION, form_rule

MARGIN = 0.2  # a citation fails when another shown document contains this much more of the sentence's terms


def titles_of(context: list[Row]) -> dict[str, Row]:
    """The shown documents under distinct titles: a second chunk of one article gets a number."""
    found: dict[str, Row] = {}
    for item in context:
        title = item["title"]
        found[title if title not in found else f"{title} {len(found) + 1}"] = item
    return found


def read_parts(text: str, titles: Iterable[str]) -> list[tuple[str, str]]:
    """Sentences of an answer, each with the title written after it in 【】, or "" where none or an unknown one is."""
    parts: list[tuple[str, str]] = []
    start = 0
    for found in CITATION.finditer(text):
        pieces = sentences(text[start : found.start()].lstrip("。！？!?. "))
        start = found.end()
        title = found.group(1).strip() if found.group(1).strip() in titles else ""
        parts += [(sentence, title if sentence is pieces[-1] else "") for sentence in pieces]
    return parts + [(sentence, "") for sentence in sentences(text[start:].lstrip("。！？!?. "))]


def likeliest(response: Response, titles: Iterable[str]) -> str:
    """The title that begins with the likeliest token; "" when no token begins one, or the best begins two."""
    for token, _ in sorted((response.logprobs[0] if response.logprobs else {}).items(), key=lambda item: -item[1]):
        begun = [title for title in titles if token.strip() and title.startswith(token.strip())]
        if begun:
            return begun[0] if len(begun) == 1 else ""
    return ""


def cite(sentence: str, document: str) -> str:
    """Put the citation before the sentence's closing mark, as the card does; a missing mark is added."""
    mark = "。" if re.search(r"[\u4e00-\u9fff]", sentence) else "."
    closing = sentence[-1] if sentence[-1:] in tuple("。！？!?.") else ""
    body = sentence[: len(sentence) - len(closing)]
    return f"{body}【{document}】{closing or mark}" if document else body + (closing or mark)


def citation_rule(text: str, context: list[Row]) -> tuple[str, str]:
    """First fault of the citations, with the finding; ("", "") when all are sound.

    citation_form: see `form_rule`; no_citation; unknown_citation: an id that the context lacks; unsupported_citation:
    the cited document has less of the sentence's terms than `checks.support_limit`, or another one `MARGIN` more.
    """
    rule, detail = form_rule(text, [item["id"] for item in context])
    if rule:
        return rule, detail
    claims = claims_of(text)
    if not claims:
        return "no_citation", text[:80]
    shown = {item["id"]: passage(item) for item in context}
    for claim, cited in claims:
        if unknown := next((one for one in cited if one not in shown), ""):
            return "unknown_citation", unknown
        shares = {one: overlap(claim, document) for one, document in shown.items()}
        best = max(shares.values())
        for one in cited:
            if shares[one] < checks.support_limit(claim) or shares[one] < best - MARGIN:
                return "unsupported_citation", f"{one} contains {shares[one]:.2f} of: {claim[:60]}"
    return "", ""


def claims_of(text: str) -> list[tuple[str, list[str]]]:
    """Pair each run of adjacent citations with the sentence (or part of one) that it follows."""
    claims: list[tuple[str, list[str]]] = []
    start = 0
    for found in CITATION.finditer(text):
        claim = text[start : found.start()].strip(" 。！？!?.\n")
        start = found.end()
        if claim:
            claims.append(((sentences(claim) or [claim])[-1], [found.group(1).strip()]))
        elif claims:
            claims[-1][1].append(found.group(1).strip())
        else:
            claims.append(("", [found.group(1).strip()]))
    return claims
