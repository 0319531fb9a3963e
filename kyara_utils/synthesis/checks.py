"""Reject rules as pure functions: each looks for one fault and returns what it found, or an empty string.

Refusal, stop words and leaks are the elimination rules of Evol-Instruct (WizardLM, arXiv 2304.12244, §3 and
Appendix G) with Chinese equivalents. The rules look for faults, not for a form: a one-line answer and 700 characters of
Markdown with headings, lists, tables and formulas both pass. Whether a statement is true is judged by a model
(`faithfulness`); overlap and numbers are cheap checks before that.
"""

import re
from collections.abc import Iterable, Sequence

from kyara_utils.synthesis.foreign_numbers import foreign_number
from kyara_utils.synthesis.overlap import by_length, copied_share, overlap, shared_run
from kyara_utils.synthesis.styles import FULL, Style, Support
from kyara_utils.text.answer_faults import declined, unfinished
from kyara_utils.text.normalise import script_of
from kyara_utils.text.script_leaks import english_word, mainland_term, simplified_only

BRIEF, LONG = 80, 400  # characters of a short and of a long text
COPIED_RUN = 60  # longest run of characters that an answer may share with its document (four times that in English)
COPIED_SHARE = 0.8  # share of an answer that may stand in its document word for word
QUOTED = 0.3  # share of an answer that one long quotation may fill

_LEAK = re.compile(
    r"給定(?:的)?提示|改寫(?:後|的)*提示|#?(?:given|rewritten|created) prompt"
    r"|<\w{0,20}of_turn>|<\|[a-z_]{1,20}\|>|\[/?INST\]|</?(?:reference|document|query)>"
    r"|\{\{-? ?(?:documents?|digests?|question|rounds|context|direction|persona) ?-?\}\}"
    r"|(?m:^\s*# (?:原始文件|補充資料|使用者問題|參考文件|任務說明|用戶問題|Original document|Supplement"
    r"|User's question)\s*$)"
    r"|(?m:^\s*\*? ?文件(?:ID|標題|內文) ?[:：])",
    re.I,
)
# A base model runs on with the labels of its worked examples: 問題: and no space, never the full-width colon of prose.
_RUN_ON = re.compile(
    r"(?:^|[。！？!?.] *)(?:文件|資料|問題|回答|改寫|方向|追問|要求|搜尋|判斷) ?\d?:(?![/*\d\s])"
    r"|(?ms:^\s*問題 ?[:：].{1,300}^\s*回答 ?[:：])|(?m:^(?:Question"
    r"|Answer|Next question|Rewrite|Verdict): )",
    re.M,
)
_REWRITE_TALK = re.compile(
    r"給定(?:的)?問題|改寫(?:後|的|過)*(?:問題|提問|版本|如下)|\b(?:rewritten|given) (?:question|request)\b",
    re.I,
)
_STOP = set("的了是在和與或也都就而及嗎呢吧啊這那有我你他她它們個之其於以") | set(
    "a an the of to in on at is are was were be and or but it its this that these those i you he she we they".split()
)
_ASKING = re.compile(
    r"為什麼|為何|什麼|怎麼樣?|怎樣|如何|哪[一些個位座種年裡]?|多少|幾|是否|有沒有|請|說明|介紹|解釋|描述|簡單|告訴我?"
    r"|以及|主要|原因|情況|時候|方法|[的了是在和與或有會要能可以被呢嗎之其這那]"
    r"|比較|分析|列出|整理|詳細|表格|差異|假設|請問|分別|步驟|逐步|舉例|並|各|應該?|若|如果|我|您?你"
    r"|\b(?:what|which|who|when|where|why|how|please|explain|describe|tell|me|do|does|did|many|much"
    r"|a|an|the|of|to|in|on|at|is|are|was|were|and|or|for|it|its)\b",
    re.I,
)
_COMMON = frozenset("一不為會可能到以所上下大小中多少年個")
_CHARACTER = re.compile(r"[\u4e00-\u9fff]|[a-z]{2,}")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.S)
_WORDLESS = re.compile(r"\$\$?[^$\n]*\$\$?|\\\[.*?\\\]|\\\(.*?\\\)|[#*`|_>\d.,%-]+", re.S)


def subject_of(question: str) -> str:
    """What is left of a question without question words and words of request."""
    return _ASKING.sub(" ", question)


def copying(text: str, document: str, language: str = "zh-Hant") -> str:
    """The answer is the document's own words: a long run that fills much of it, or many runs that fill nearly all.

    Quotations within a longer answer, and code, are no copying.
    """
    length = COPIED_RUN if language == "zh-Hant" else 4 * COPIED_RUN
    own = "".join(_FENCE.sub(" ", text).split())
    if len(own) < length // 2:
        return ""
    if len(own) * QUOTED <= length and (run := shared_run(own, document, length)):
        return run
    share = copied_share(own, document, length // 3)
    return f"{share:.2f} of the answer" if len(own) >= length and share >= COPIED_SHARE else ""


def only_stop_words(text: str) -> str:
    """Nothing but punctuation and stop words."""
    words = re.findall(r"[\u4e00-\u9fff]|[A-Za-z]{1,40}|\d", text)
    return "" if any(word.lower() not in _STOP for word in words) else (text[:20] or "nothing")


def wrong_script(text: str, language: str = "zh-Hant") -> str:
    """The text is not in the language that the prompts ask for, or characters of the other script stand in it."""
    found = script_of(text)
    if found != language:
        return found
    return simplified_only(text)[:10] if language == "zh-Hant" else ""


def leaked_prompt(text: str, examples: Iterable[str] = (), sources: Sequence[str] = ()) -> str:
    """Labels of a prompt, or twelve characters (forty in English) of its worked examples, stand in the text.

    So does an answer that begins like a source in the prompt, with its title and a colon.
    What the sources say themselves is no leak of an example that happens to say the same.
    """
    prose = _FENCE.sub(" ", text)  # code may show a template or a chat format
    found = _LEAK.search(prose) or _RUN_ON.search(prose)
    if found:
        return found.group().strip()
    heads = [head + mark for head, mark, _ in (source.partition(":") for source in sources) if mark and len(head) < 40]
    if head := next((head for head in heads if text.startswith(head)), ""):
        return head
    length = 12 if re.search(r"[\u4e00-\u9fff]", text) else 40
    known = "".join("".join(sources).split())
    runs = (shared_run(text, example, length) for example in examples)
    return next((run for run in runs if run and run not in known), "")


def supported_share(text: str, sources: Iterable[str]) -> tuple[float, float]:
    """Share of a text's terms, and of its characters (words in English), that its sources contain.

    Markup, formulas, code and numbers are not counted.
    """
    words = _WORDLESS.sub(" ", _FENCE.sub(" ", text))
    words, source = words if re.search(r"\w{2}", words) else text, "\n".join(sources)
    own, known = (set(_CHARACTER.findall(some.lower())) - _STOP - _COMMON for some in (words, source))
    return overlap(words, source), len(own & known) / max(1, len(own))


def support_limit(text: str, support: Support = FULL.support) -> float:
    """Least share of a text's terms that its sources must contain: a long answer explains in words of its own."""
    return by_length(len(text), (BRIEF, LONG), support[:2])


def unsupported(text: str, sources: Iterable[str], support: Support = FULL.support) -> str:
    """Too few of the terms, and of the characters, stand in the sources: the answer is not from the documents.

    Measured on tests/fixtures/strong_answers.yaml: answers from their document hold 0.49 or more of the characters,
    answers about another subject 0.44 or less. What is half right passes; `faithfulness` judges statement by statement.
    """
    terms, characters = supported_share(text, sources)
    enough = terms >= support_limit(text, support) or characters >= support[2]
    return "" if enough else f"{terms:.2f} of the terms are in the sources"


def echo(text: str, question: str) -> str:
    """The answer says nothing that the question has not said."""
    limit = 0.8 if len(text) <= 2 * len(question) else 0.9
    return "repeats the question" if overlap(text, question) >= limit else ""


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group() if found else ""


def _first(found: Iterable[tuple[str, str]]) -> tuple[str, str]:
    return next(((rule, detail) for rule, detail in found if detail), ("", ""))


def _basic(
    text: str, language: str, examples: Iterable[str], sources: Sequence[str], short: bool, style: Style
) -> Iterable[tuple[str, str]]:
    yield "only_stop_words", only_stop_words(text)
    yield "leaked_prompt", leaked_prompt(text, examples, sources) or _found(_REWRITE_TALK, text if short else text[:12])
    yield "refusal", declined(text, language)
    yield "wrong_script", wrong_script(text, language)
    yield "mainland_term", mainland_term(text, language, sources)
    yield "english_word", "" if style.trusted else english_word(text, language, sources)


def request_rule(
    text: str, language: str, examples: Iterable[str] = (), sources: Sequence[str] = (), style: Style = FULL
) -> tuple[str, str]:
    """First rule that a generated question or request breaks, with the finding; ("", "") when it is sound."""
    return _first(_basic(text, language, examples, sources, True, style))


ANSWER_RULES = (
    "only_stop_words", "leaked_prompt", "refusal", "wrong_script", "mainland_term", "english_word", "truncated", "echo",
    "copying", "unsupported", "foreign_number",
)  # fmt: skip


def answer_rule(
    text: str,
    question: str,
    document: str,
    sources: list[str],
    language: str,
    examples: Iterable[str] = (),
    style: Style = FULL,
) -> tuple[str, str]:
    """First of `ANSWER_RULES` that an answer breaks, with the finding; ("", "") when it passes all of them.

    document: what must not be copied; sources: all that the model was shown (the document, digests); style: of the
    teacher, whose `support` says how many terms an answer must take from them.
    """
    found = _first(_basic(text, language, examples, [*sources, question], False, style))
    if found[0]:
        return found
    return _first(
        (
            ("truncated", unfinished(text)),
            ("echo", echo(text, question)),
            ("copying", copying(text, document, language)),
            ("unsupported", unsupported(text, [*sources, question], style.support)),
            ("foreign_number", foreign_number(text, [*sources, question])),
        )
    )
