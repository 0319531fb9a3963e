"""Citations of the card's format in an answer: the form 【id】, faults of it, and the sentence instead of an answer.

Training rows are checked and trained models' answers are scored by the same rules.
"""

import re
from collections.abc import Iterable

NO_ANSWER = {
    "zh-Hant": "參考文件缺乏與問題相關資訊。",
    "en": "The reference documents lack information relevant to the question.",
}
CITATION = re.compile(r"【([^【】\n]{1,40})】")
LABEL = r"(?:(?:參考|相關)?(?:文件|資料|來源|出處)|ID|編號|document|doc|source|ref)?\s*[:：#]?\s*"
_FENCED = re.compile(
    r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|<(?:pre|code)>.*?(?:</(?:pre|code)>|\Z)|(?<!`)`[^`\n]+`(?!`))", re.S
)
_DOUBLED = re.compile(r"【\s*【|】\s*】|【[^【】\n]{0,60}\Z|[\[［〔]\s*【|【\s+|【[^【】\n]*\s】")
_ID = re.compile(
    r"\bid_[0-9a-f]{8}\b|[\[［〔]\s*(?:id_?|文件 ?ID)?[:： ]?[0-9a-f]{6,8}\s*[\]］〕]"
    r"|[\[［〔(（](?:參考)?(?:文件|資料|來源|document|source)\s*[一二三四五六七八九十\d]{1,2}[)）\]］〕]"
    r"|(?<![A-Za-z0-9_)\]])\[\d{1,2}\](?!\()",
    re.I,
)


def normal_form(text: str, ids: Iterable[str]) -> str:
    """Return the text with every citation of a shown document in the one form 【id】.

    Models write 【 id 】, 【【id】】, [id], （id）, 【文件ID: id】 and 【id、id】 for the same thing. What lies in code
    stays as it is, and an id outside brackets too: `citation_rule` rejects both.
    """
    known = sorted(map(re.escape, ids), key=len, reverse=True)
    if not known:
        return text
    one = rf"`?(?:{LABEL}){{0,2}}(?:{'|'.join(known)})`?"
    written = re.compile(
        rf"`?\\?[【\[［〔(（「〖<]{{1,2}}\^?\s*({one}(?:\s*[、，,;；和與及&]\s*{one})*)\s*(?:†[^】\n]{{0,20}})?"
        rf"\\?[】\]］〕)）」〗>]{{1,2}}`?",
        re.I,
    )
    each = re.compile("|".join(known), re.I)
    parts = _FENCED.split(text)  # fences at odd places
    for place in range(0, len(parts), 2):
        parts[place] = written.sub(
            lambda found: "".join(f"【{i.lower()}】" for i in each.findall(found.group(1))), parts[place]
        )
    return "".join(parts)


def form_rule(text: str, ids: Iterable[str]) -> tuple[str, str]:
    """citation_form: a citation in code, in other brackets, or an id that stands bare in the prose."""
    prose = "".join(_FENCED.split(text)[::2])
    if len(prose) < len(text) and CITATION.search("".join(_FENCED.split(text)[1::2])):
        return "citation_form", "a citation in a code block"
    if found := _DOUBLED.search(prose):
        return "citation_form", found.group()
    left = CITATION.sub(" ", prose)
    bare = _ID.search(left) or next((re.search(re.escape(one), left) for one in ids if one in left), None)
    return ("citation_form", bare.group()) if bare else ("", "")
