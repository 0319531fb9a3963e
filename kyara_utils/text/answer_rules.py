"""Named rules on an answer: what a weak teacher gets wrong most often. The one set that writing and filtering share.

Each rule looks for one fault and says where it is, so that a funnel shows which fault cost how many rows. An answer is
rejected under the first rule that fires, in the order of `RULES`. The refusal and leak rules are the Chinese
counterparts of the elimination rules of Evol-Instruct (WizardLM, arXiv 2304.12244, §3).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from kyara_utils.runs.errors import KyaraError
from kyara_utils.text.answer_faults import declined, unfinished
from kyara_utils.text.folding import fold, fold_all, folded, prose
from kyara_utils.text.ngrams import jaccard, ngrams
from kyara_utils.text.normalise import converter, search_text, simplified_characters


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules. Kyara publishes none; these pass every article of the bundled corpus."""

    min_chars: int = 10  # shortest answer, white space left out; maths answers may be shorter
    max_chars: int = 6000  # longest answer, about 4,000 tokens of Chinese
    repeated_ngrams: float = 0.35  # share of character 4-grams that occurred before
    repeated_lines: int = 2  # how often one line or sentence of 6 or more characters may occur
    repeated_character: int = 10  # longest run of one letter or mark that is no rule line
    copied: float = 0.8  # Jaccard similarity of the 4-grams of question and answer
    apology_chars: int = 80  # an answer that opens with an apology must be longer than this
    garbage: float = 0.1  # share of characters that are no Han, Latin, digit or punctuation


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Answer:
    """An answer with what the rules need to know about it; its derived forms are computed once."""

    text: str
    question: str = ""
    lang: str = "zh-Hant"
    math: bool = False

    @cached_property
    def search(self) -> str:
        return search_text(self.text)

    @cached_property
    def folded(self) -> str:
        return folded(self.search)

    @cached_property
    def prose(self) -> str:
        return prose(self.text)


Rule = Callable[[Answer, Limits], str]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its function name. It returns what it found, or an empty string."""
    RULES[function.__name__] = function
    return function


@lru_cache(maxsize=64)
def _pattern(source: str) -> re.Pattern[str]:
    """Compile a lower-case pattern in Traditional characters for text in its search form."""
    return re.compile(converter("t2s").convert(source), re.M)


def _found(source: str, text: str) -> str:
    """What the pattern matches in a text in its search form."""
    match = _pattern(source).search(text)
    return match.group().strip() if match else ""


@rule
def empty(answer: Answer, limits: Limits) -> str:
    """No letter or digit at all: nothing, or only punctuation."""
    return "" if answer.folded else "no letter or digit"


CHAT_MARKS = r"<(?:start|end)_of_turn>|<\|[a-z_]+\|>|\[/?inst\]|</?s>|<(?:bos|eos|pad|unk)>"
MARKUP = r"</?(?:reference|document|query)>"  # of Kyara's own grounded-answer prompt
HEADINGS = r"#+ ?(?:response|instruction|input)\b|\b(?:given|rewritten) prompt\b|給定提示|改寫提示"
LABELS = (
    r"(?:^|[。!?] *)[*#\[【 ]*(?:(?:參考|相關)?文件(?:id|標題|內文)?|參考資料|(?:使用者|用戶)?問題|回答|摘要"
    r"|使用者|用戶|助理|human|user|assistant|system)[*\]】]* *:"
)


@rule
def leaked_prompt(answer: Answer, limits: Limits) -> str:
    """The answer runs on into the prompt's labels (文件: 問題: 回答:) or a chat template's marks."""
    return _found(f"{CHAT_MARKS}|{MARKUP}|{HEADINGS}|{LABELS}", answer.search)


@rule
def refusal(answer: Answer, limits: Limits) -> str:
    """The answer opens by declining, or opens with an apology and declines or stops soon."""
    unknowing = _found(r"\A\W*(?:我不知道|無可奉告)", answer.search)
    return unknowing or declined(answer.text, "en" if answer.lang == "en" else "zh-Hant")


MACHINE = (
    r"(?:身為|作為|我(?:只|僅)?是)(?:一|個|名|位|款|種|由.{1,12}(?:開發|訓練)的| )*"
    r"(?:ai|人工智慧|人工智能|大型語言模型|語言模型) ?(?:語言)?(?:助理|助手|模型|程式|[,。我])"
    r"|\bas an? (?:ai|artificial intelligence|large language model)\b|\bi'?m an? ai\b"
)


@rule
def meta_talk(answer: Answer, limits: Limits) -> str:
    """The answer speaks about itself as a machine (身為AI) instead of answering."""
    return _found(MACHINE, answer.search)


_QUOTED = re.compile(r"「[^」\n]{1,12}」|『[^』\n]{1,12}』|“[^”\n]{1,12}”")


@rule
def wrong_script(answer: Answer, limits: Limits) -> str:
    """Simplified-only characters outside short quotations; zh-Hans rows are left to `by_language`."""
    if answer.lang == "zh-Hans":
        return ""
    return "".join(simplified_characters(_QUOTED.sub("", answer.prose))[:10])


_ORDINARY = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff\u3100-\u312f\u31a0-\u31bf"  # Han, bopomofo
    r"A-Za-z\u00a0-ɏͰ-Ͽ\uff01-\uff5e\u2100-\u22ff\u2500-\u25ff]+"  # Latin, Greek, mathematics, table lines
)

_BROKEN = re.compile(r"[\ufffd\ue000-\uf8ff\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKS = frozenset("Nd Nl No Pc Pd Ps Pe Pi Pf Po Zs Zl Zp Cc Sm Sc Sk".split())


@rule
def garbage(answer: Answer, limits: Limits) -> str:
    """Control or replacement characters, or many foreign scripts and pictograms outside short quotes."""
    broken = _BROKEN.search(answer.text)
    if broken:
        return f"broken character U+{ord(broken.group()):04X}"
    text = _QUOTED.sub("", answer.text)
    odd = sum(unicodedata.category(c) not in _MARKS for c in _ORDINARY.sub("", text))
    return f"{odd / len(text):.2f} of the characters" if odd > limits.garbage * len(text) else ""


_PIECE = re.compile(r"[\n。！？!?]+")
_RUN = re.compile(r"([^\s\d\-=_.·…*#|─~])\1+")


@rule
def repetition(answer: Answer, limits: Limits) -> str:
    """One character, one sentence or many 4-grams over and over: greedy decoding of a small model."""
    text = answer.prose
    run = max((m.group() for m in _RUN.finditer(text)), key=len, default="")
    if len(run) > limits.repeated_character:
        return f"{run[0]} × {len(run)}"
    pieces = Counter(key for key in fold_all(_PIECE.split(text)) if len(key) >= 6)
    line, times = max(pieces.items(), key=lambda item: item[1], default=("", 0))
    if times > limits.repeated_lines:
        return f"{line[:20]} × {times}"
    return _repeated_ngrams(answer.folded if text == answer.text else fold(text), limits)


def _repeated_ngrams(folded: str, limits: Limits) -> str:
    total = len(folded) - 3
    share = 1 - len(ngrams(folded, 4)) / total if total >= 16 else 0.0
    return f"{share:.2f} of the 4-grams repeated" if share > limits.repeated_ngrams else ""


@rule
def copies_question(answer: Answer, limits: Limits) -> str:
    """The answer is the question again. An extract from a long document in the question does not count."""
    similarity = jaccard(ngrams(fold(answer.question), 4), ngrams(answer.folded, 4))
    return f"similarity {similarity:.2f}" if similarity >= limits.copied else ""


@rule
def too_short(answer: Answer, limits: Limits) -> str:
    """Fewer than `min_chars` characters without white space; maths answers are exempt."""
    length = len("".join(answer.text.split()))
    return f"{length} characters" if length < limits.min_chars and not answer.math else ""


@rule
def too_long(answer: Answer, limits: Limits) -> str:
    """More than `max_chars` characters."""
    return f"{len(answer.text)} characters" if len(answer.text) > limits.max_chars else ""


_RESULT = re.compile(r"(?:答案?|解|answer|result|####|=|＝|≈|為|是|[:：]).*\d[^，,、]{0,12}\Z", re.I)


@rule
def truncated(answer: Answer, limits: Limits) -> str:
    """The last line has no reason to stop (see `answer_faults.unfinished`); a last line of maths may give a number."""
    last = (answer.text.rstrip().splitlines() or [""])[-1]
    result = answer.math and (len(last) < 12 or bool(_RESULT.search(last)))
    return "" if result else unfinished(answer.text)


def first_broken(answer: Answer, limits: Limits = DEFAULT_LIMITS, names: Iterable[str] = RULES) -> tuple[str, str]:
    """Return (rule, finding) of the first of the named rules that the answer breaks; ("", "") when it is sound."""
    found = ((name, RULES[name](answer, limits)) for name in names)
    return next((item for item in found if item[1]), ("", ""))


def known(names: Iterable[str] | None) -> list[str]:
    """Return the names, all rules for None; a name that is no rule is a `KyaraError`."""
    names = list(RULES if names is None else names)
    if unknown := sorted(set(names) - set(RULES)):
        raise KyaraError(f"unknown quality rules {', '.join(unknown)}; choose from {', '.join(RULES)}")
    return names
