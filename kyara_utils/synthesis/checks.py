"""Reject rules as pure functions: each looks for one fault and returns what it found, or an empty string.

Refusal, stop words and leaks are the elimination rules of Evol-Instruct (WizardLM, arXiv 2304.12244, §3 and
Appendix G) with Chinese equivalents. Overlap is counted in the terms of our BM25: Han bigrams and whole words of
other scripts, folded over script and case, so one threshold serves Chinese and English.
"""

import re
from collections.abc import Iterable, Sequence

from kyara_utils.knowledge.index.lexical import terms
from kyara_utils.text.normalise import script_of

SUPPORT = 0.5  # least share of a sentence's terms that its source must contain
DUPLICATE = 0.5  # Jaccard similarity from which two questions of one document are the same
ON_TOPIC = 0.5  # least share of a question's terms, question words aside, that stand in its document
COPIED_RUN = 60  # longest run of characters that an answer may share with its document (four times that in English)
COPIED_SHARE = 0.8  # share of the document's terms from which an answer is the document
REFUSAL_CHARACTERS = 80  # WizardLM: fewer than 80 words; a Chinese answer is counted in characters
QUESTION_CHARACTERS = {"zh-Hant": (6, 60), "en": (12, 240)}

_REFUSAL = re.compile(r"抱歉|對不起|不好意思|無法回答|無法提供|\bsorry\b|\bi (?:can't|cannot|am unable to)\b", re.I)
_LEAK = re.compile(
    r"給定(?:的)?(?:提示|問題)|改寫(?:後|的)*(?:提示|問題)|#?(?:given|rewritten|created) prompt"
    r"|(?:文件|資料|問題|回答|改寫|方向|追問|重點|要求|搜尋|判斷|document|question|answer|request|rewrite) ?\d?[:：]"
    r"|<\w{0,20}of_turn>|</?(?:reference|document|query)>|\{\{|\}\}",
    re.I,
)
_STOP = set("的了是在和與或也都就而及嗎呢吧啊這那有我你他她它們個之其於以") | set(
    "a an the of to in on at is are was were be and or but it its this that these those i you he she we they".split()
)
_ASKING = re.compile(
    r"為什麼|為何|什麼|怎麼樣?|怎樣|如何|哪[一些個位座種年裡]?|多少|幾|是否|有沒有|請|說明|介紹|解釋|描述|簡單|告訴我?"
    r"|以及|主要|原因|情況|時候|方法|[的了是在和與或有會要能可以被呢嗎之其這那]"
    r"|\b(?:what|which|who|when|where|why|how|please|explain|describe|tell|me|do|does|did|many|much"
    r"|a|an|the|of|to|in|on|at|is|are|was|were|and|or|for|it|its)\b",
    re.I,
)
_ENDED = re.compile(r"[。！？!?.…」』）)\]】》”\"|}`][\s*]*\Z")
_NUMBER = re.compile(r"\d[\d,]{0,20}(?:\.\d{1,10})?")


def is_question(text: str, language: str = "zh-Hant") -> bool:
    """A question that stands by itself: of sensible length, on one line, ends with a question mark, has words."""
    low, high = QUESTION_CHARACTERS[language]
    words = r"[\u4e00-\u9fff]" if language == "zh-Hant" else "[A-Za-z]"
    return low <= len(text) <= high and text.endswith(("？", "?")) and bool(re.search(words, text[:-1]))


def overlap(text: str, other: str) -> float:
    """Share of the distinct terms of `text` that occur in `other`, 0 to 1; 0 for a text without terms."""
    own = set(terms(text))
    return len(own & set(terms(other))) / len(own) if own else 0.0


def jaccard(text: str, other: str) -> float:
    """Shared terms over all terms of both texts, 0 to 1."""
    a, b = set(terms(text)), set(terms(other))
    return len(a & b) / len(a | b) if a | b else 0.0


def near_duplicate(question: str, earlier: Iterable[str], limit: float = DUPLICATE) -> str:
    """The earlier question (of the same document or conversation) that this one repeats."""
    return next((other for other in earlier if jaccard(question, other) >= limit), "")


def shared_run(text: str, document: str, length: int) -> str:
    """A run of `length` characters (white space left out) that both texts contain."""
    text, document = "".join(text.split()), "".join(document.split())
    runs = {document[i : i + length] for i in range(len(document) - length + 1)}
    return next((text[i : i + length] for i in range(len(text) - length + 1) if text[i : i + length] in runs), "")


def copying(text: str, document: str, language: str = "zh-Hant") -> str:
    """The answer takes over a long run of the document, or nearly all of it; a sentence or two may be quoted."""
    length = COPIED_RUN if language == "zh-Hant" else 4 * COPIED_RUN
    if run := shared_run(text, document, length):
        return run
    share = overlap(document, text) if len(document) >= length else 0.0
    return f"{share:.2f} of the document" if share >= COPIED_SHARE else ""


def refusal(text: str, language: str = "zh-Hant") -> str:
    """An apology or inability in a short answer (a long one may go on to help)."""
    size = len(text) if language == "zh-Hant" else len(text.split())
    found = _REFUSAL.search(text.replace("’", "'"))
    return found.group() if found and size < REFUSAL_CHARACTERS else ""


def only_stop_words(text: str) -> str:
    """Nothing but punctuation and stop words."""
    words = re.findall(r"[\u4e00-\u9fff]|[A-Za-z]{1,40}|\d", text)
    return "" if any(word.lower() not in _STOP for word in words) else (text[:20] or "nothing")


def truncated(text: str) -> str:
    """The text stops in mid-sentence."""
    return "" if _ENDED.search(text) else f"ends with {text[-12:]}"


def wrong_script(text: str, language: str = "zh-Hant") -> str:
    """The text is not in the script that the prompts ask for."""
    found = script_of(text)
    return "" if found == language else found


def leaked_prompt(text: str, examples: Iterable[str] = (), sources: Sequence[str] = ()) -> str:
    """Labels of a prompt, or twelve characters (forty in English) of its worked examples, stand in the text.

    So does an answer that begins like a source in the prompt, with its title and a colon.
    What the sources say themselves is no leak of an example that happens to say the same.
    """
    found = _LEAK.search(text)
    if found:
        return found.group()
    heads = [head + mark for head, mark, _ in (source.partition(":") for source in sources) if mark and len(head) < 40]
    if head := next((head for head in heads if text.startswith(head)), ""):
        return head
    length = 12 if re.search(r"[\u4e00-\u9fff]", text) else 40
    known = "".join("".join(sources).split())
    runs = (shared_run(text, example, length) for example in examples)
    return next((run for run in runs if run and run not in known), "")


def unsupported(text: str, sources: Iterable[str], limit: float = SUPPORT) -> str:
    """Fewer than `limit` of the terms stand in the sources: the answer is not from the documents."""
    share = overlap(text, "\n".join(sources))
    return "" if share >= limit else f"{share:.2f} of the terms are in the sources"


def foreign_number(text: str, sources: Iterable[str]) -> str:
    """A number that none of the sources (nor the question, if given among them) contains."""
    known = {number.replace(",", "") for source in sources for number in _NUMBER.findall(source)}
    return next((number for number in _NUMBER.findall(text) if number.replace(",", "") not in known), "")


def off_topic(question: str, document: str) -> str:
    """Less than half of what the question speaks of, question words aside, stands in the document it is made from."""
    subject = _ASKING.sub(" ", question)
    share = overlap(subject, document)
    return "" if share >= ON_TOPIC else f"{share:.2f} of the question is in the document"


def echo(text: str, question: str) -> str:
    """The answer says nothing that the question has not said."""
    return "repeats the question" if overlap(text, question) >= 0.9 else ""


def request_rule(
    text: str, language: str, examples: Iterable[str] = (), sources: Sequence[str] = ()
) -> tuple[str, str]:
    """First rule that a generated question or request breaks, with the finding; ("", "") when it is sound."""
    found = {
        "only_stop_words": only_stop_words(text),
        "leaked_prompt": leaked_prompt(text, examples, sources),
        "refusal": refusal(text, language),
        "wrong_script": wrong_script(text, language),
    }
    return next(((rule, detail) for rule, detail in found.items() if detail), ("", ""))


ANSWER_RULES = (
    "only_stop_words", "leaked_prompt", "refusal", "truncated", "wrong_script", "echo", "copying", "unsupported",
    "foreign_number",
)  # fmt: skip


def answer_rule(
    text: str, question: str, document: str, sources: list[str], language: str, examples: Iterable[str] = ()
) -> tuple[str, str]:
    """First of `ANSWER_RULES` that an answer breaks, with the finding; ("", "") when it passes all of them.

    document: what must not be copied; sources: all that the model was shown (the document, digests).
    """
    rule, detail = request_rule(text, language, examples, sources)
    if rule:
        return rule, detail
    found = {
        "truncated": truncated(text),
        "echo": echo(text, question),
        "copying": copying(text, document, language),
        "unsupported": unsupported(text, sources),
        "foreign_number": foreign_number(text, [*sources, question]),
    }
    return next(((rule, detail) for rule, detail in found.items() if detail), ("", ""))
