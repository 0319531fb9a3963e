"""Tags for selection: the kind of task by rule, and one way to write what a model names.

The rules are no equal of InsTag's tagger (arXiv 2308.07074): they know the kind of task, the topic the source states
and the length, about two dozen tags where InsTag has 6,587. The task is the group within which rows are ranked.
"""

import re

from kyara_utils.curation.rows import is_math
from kyara_utils.runs.tables import Row, answer, meta, question
from kyara_utils.text.normalise import nfkc

OTHER = "other"
TASKS: tuple[tuple[str, str], ...] = (  # the first that matches is the main task; later ones are added
    ("document", r"根據(?:上述|以下|下列|這|本)|以下(?:文章|文件|段落)|參考文件|<document>|according to"),
    ("writing", r"(?:請|幫我|試著|替我).{0,6}(?:寫|改寫|創作|草擬)|作文|\b(?:write|draft|compose|rewrite)\b"),
    ("summary", r"摘要|總結|重點整理|概述|\bsummari[sz]e\b"),
    ("translation", r"翻譯|譯成|\btranslate\b"),
    ("code", r"程式碼|函式|python|javascript|\bsql\b|```"),
    ("comparison", r"比較|差異|差別|有何不同|有什麼不同|異同|優缺點|\bcompare\b|\bdifferences?\b"),
    ("reason", r"為什麼|為何|原因|怎麼會|\bwhy\b"),
    ("procedure", r"如何|怎麼|怎樣|步驟|方法|\bhow (?:to|do|can|should)\b"),
    ("quantity", r"多少|幾(?:個|年|歲|次|天|位|種|公里|元)|多(?:久|長|高|遠|大)|\bhow (?:many|much|long)\b"),
    ("person place time", r"誰|哪裡|何處|何時|什麼時候|哪一?(?:個|位|年|座|種)|\b(?:who|where|when|which)\b"),
    ("definition", r"什麼是|是什麼|何謂|指的是|意思|什麼|\bwhat\b|\bdefine\b"),
)
LENGTHS = ((100, "short answer"), (400, "medium answer"))  # characters, below this; above: long answer
_SPECIAL = re.compile(r"(?<![a-z0-9+#])[+#]+|(?<!\w)\.+(?![a-z])|(?<=\w)\.(?!\d)|[^\w+#.]+")
_TASKS = tuple((tag, re.compile(pattern, re.I)) for tag, pattern in TASKS)


def rule_tags(row: Row) -> list[str]:
    """Return task tags (main one first), `topic …` if the row's meta states one, and a length class."""
    text = question(row)
    tasks = [tag for tag, pattern in _TASKS if pattern.search(text)]
    tasks = (["maths"] if is_math(row) else []) + tasks
    topic = str(meta(row).get("topic") or "").strip()
    length = next((name for below, name in LENGTHS if len(answer(row)) < below), "long answer")
    return (tasks or [OTHER]) + ([f"topic {topic}"] if topic else []) + [length]


def tag_form(tag: str) -> str:
    """Return a tag as it is shown: NFKC, lower case, special characters as spaces.

    InsTag's rule aggregation, but what is a name is kept: + and # behind a Latin letter (c++, c#), a dot before a word
    (.net). Stems are left to the comparison by meaning, which knows more languages than English.
    """
    return " ".join(_SPECIAL.sub(" ", nfkc(tag).lower().replace("_", " ")).split())
