"""Is an answer true to its sources? Judged by a model, statement by statement, on a scale set by known true and false.

Shares of common words cannot tell a true sentence from a false one of the same words (基爾比在1971年獲獎, where 1971
stands elsewhere in the document). So an answer is split into statements, each is asked against the sources, and the
verdict is a difference of log-probabilities. Where "true" begins is read off sentences of the run's own documents and
copies with one number, name or relation exchanged (`corruption`); how well the judge tells those apart is reported, and
a judge that cannot rejects nothing. After FActScore (Min et al. 2023, arXiv 2305.14251) and FactCC.
"""

import logging
import random
import re
from dataclasses import asdict, dataclass
from typing import Any

from kyara_utils.llm import Client, score
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.corruption import corrupted
from kyara_utils.synthesis.drafts import end, parted, sentences, shown, verdicts
from kyara_utils.synthesis.rag import sources_of
from kyara_utils.synthesis.retrieval import label_said

log = logging.getLogger(__name__)
LABELS = {"zh-Hant": ("對", "錯"), "en": ("True", "False")}
MOST = 12  # statements of one answer that are asked, spread evenly over it
USEFUL = 0.7  # area under the ROC curve from which a judge may reject
_MARKUP = re.compile(r"```.*?(?:```|\Z)|【[^】\n]*】|\$\$.*?\$\$|\\\[.*?\\\]", re.S)
_MARKER = re.compile(r"^\s*(?:#+\s*|[-*•+>]\s+|\d{1,2}[.、)]\s*|[（(]\d{1,2}[)）]\s*)+")
_RULE = re.compile(r"[|:\-\s]+")


@dataclass(frozen=True)
class Calibration:
    """How a judge scored known statements. threshold: log-odds below which one counts as unsupported.

    precision, recall: of the verdict "unsupported" at the threshold; auc: chance that a true statement scores above a
    false one, 0.5 by guessing; pairs: true statements and as many false ones.
    """

    threshold: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    auc: float = 0.5
    pairs: int = 0

    @property
    def useful(self) -> bool:
        """Whether the judge tells true from false well enough to reject by it."""
        return self.auc >= USEFUL


def statements(answer: str) -> list[str]:
    """Split an answer into statements: its sentences, list items and table rows, without code, headings and markup."""
    found = []
    for line in _MARKUP.sub(" ", answer).splitlines():
        heading = line.lstrip().startswith("#") or line.rstrip(" *").endswith(("：", ":"))
        plain = _MARKER.sub("", line).replace("**", "").replace("`", "").strip()
        if heading or _RULE.fullmatch(plain or "-"):
            continue
        if plain.startswith("|"):
            plain = "，".join(cell.strip() for cell in plain.strip("|").split("|"))
        found += [sentence for sentence in sentences(plain) if len(re.findall(r"\w", sentence)) >= 6]
    step = max(1.0, len(found) / MOST)
    return [found[int(number * step)] for number in range(min(MOST, len(found)))]


def calibrate(
    client: Client, chunks: list[Row], pairs: int = 24, seed: int = 0, language: str = "zh-Hant"
) -> Calibration:
    """Score true and corrupted sentences of `chunks` and set the threshold where both are told apart best."""
    picker = random.Random(seed)
    known = _known(chunks, pairs, picker)
    values = ask_statements(client, [(chunk, text) for chunk, *both in known for text in both], language)
    found = measure(values[0::2], values[1::2])
    log.info("faithfulness: %s", asdict(found))
    return found


def _known(chunks: list[Row], pairs: int, picker: random.Random) -> list[tuple[Row, str, str]]:
    """(chunk, true sentence, false copy), one of a chunk, in a seeded order."""
    found = []
    others = [sentence for chunk in chunks[:200] for sentence in sentences(chunk["text"])]
    for chunk in picker.sample(chunks, len(chunks)):
        own = [sentence for sentence in sentences(" ".join(chunk["text"].split())) if 12 <= len(sentence) <= 200]
        picker.shuffle(own)
        made = ((sentence, corrupted(sentence, others, picker)[0]) for sentence in own)
        if pair := next(((true, false) for true, false in made if false), None):
            found.append((chunk, *pair))
        if len(found) == pairs:
            break
    return found


def ask_statements(client: Client, pairs: list[tuple[Row, str]], language: str) -> list[float | None]:
    """Log-odds that each statement is true to its chunk."""
    inputs = [{"document": shown(client, chunk), "statement": text} for chunk, text in pairs]
    drafts: list[Row] = [{"calls": [], "prompts": []} for _ in inputs]
    return _ask(client, drafts, inputs, language)


def _ask(client: Client, drafts: list[Row], inputs: list[Row], language: str) -> list[float | None]:
    """Log-odds of true over false; ±1 by the word alone where an endpoint gives no log-probabilities, else None."""
    labels = LABELS[language]
    responses, _ = verdicts(client, "faithful", language, drafts, inputs, labels, [])
    by_word = {labels[0].lower(): 1.0, labels[1].lower(): -1.0}
    values = [(score(response, labels), by_word.get(label_said(response, labels).lower())) for response in responses]
    return [word if value is None else value for value, word in values]


def measure(true: list[float | None], false: list[float | None]) -> Calibration:
    """Threshold of the best balanced accuracy, and how the judge does there; unread verdicts are left out."""
    high, low = ([value for value in values if value is not None] for values in (true, false))
    if not high or not low:
        return Calibration()
    auc = sum((h > v) + 0.5 * (h == v) for h in high for v in low) / (len(high) * len(low))
    cuts = sorted({*high, *low})
    middles = [cuts[0] - 1.0, *((a + b) / 2 for a, b in zip(cuts, cuts[1:], strict=False))]

    def balanced(cut: float) -> float:
        return sum(v < cut for v in low) / len(low) + sum(h >= cut for h in high) / len(high)

    threshold = max(middles, key=balanced)
    caught, lost = sum(v < threshold for v in low), sum(h < threshold for h in high)
    precision = caught / (caught + lost) if caught + lost else 0.0
    return Calibration(round(threshold, 4), round(precision, 3), round(caught / len(low), 3), round(auc, 3), len(low))


def judge_faithfulness(
    client: Client, drafts: list[Row], scale: Calibration, most: float, language: str = "zh-Hant"
) -> tuple[list[Row], list[Row]]:
    """Add `unsupported`: the share of each answer's statements below the threshold; return kept drafts and rejects.

    most: largest share that passes; 1 keeps all. A draft whose first answer fails is a reject of stage `checks`, rule
    `unfaithful`; a later round that fails ends its conversation there. Unanswerable rows are not asked.
    """
    asked = [draft for draft in drafts if draft.get("answerable", True)]
    pairs = [(draft, number, text) for draft in asked for number, own in enumerate(_statements(draft)) for text in own]
    inputs = [{"document": _sources(client, draft), "statement": text} for draft, _, text in pairs]
    values = _ask(client, [draft for draft, _, _ in pairs], inputs, language) if inputs else []
    low: dict[tuple[int, int], list[str]] = {}
    for (draft, number, text), value in zip(pairs, values, strict=True):
        if value is not None and value < scale.threshold:
            low.setdefault((id(draft), number), []).append(text)
    for draft in asked:
        _settle(draft, [low.get((id(draft), number), []) for number in range(len(_statements(draft)))], most, scale)
    return parted(drafts)


def _settle(draft: Row, low: list[list[str]], most: float, scale: Calibration) -> None:
    shares = [len(bad) / max(1, len(made)) for bad, made in zip(low, _statements(draft), strict=True)]
    draft["unsupported"] = [round(share, 3) for share in shares]
    wrong = [number for number, share in enumerate(shares) if share > most and scale.useful]
    if wrong and wrong[0] == 0:
        end(draft, "checks", "unfaithful", " / ".join(low[0])[:200])
    elif wrong:
        draft["rounds"] = draft["rounds"][: wrong[0] - 1]


def _statements(draft: Row) -> list[list[str]]:
    return [statements(answer) for answer in (draft["answer"], *(text for _, text in draft.get("rounds", [])))]


def _sources(client: Client, draft: Row) -> str:
    """The document and digests of an answer, or the documents of a cited one."""
    if context := draft.get("context"):
        return "\n\n".join(shown(client, item) for item in context)
    return "\n\n".join([shown(client, draft["chunk"]), *sources_of(draft)[1:]])


def check_faithfulness(
    client: Client, drafts: list[Row], chunks: list[Row], most: float, seed: int = 0, language: str = "zh-Hant"
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Calibrate on `chunks`, judge the drafts; return kept drafts, rejects, and what the manifest says of the judge.

    most: see `judge_faithfulness`; at 1 nothing is asked and all are kept.
    """
    if most >= 1 or not drafts:
        return drafts, [], {}
    scale = calibrate(client, chunks, seed=seed, language=language)
    if not scale.useful:
        log.warning("%s cannot tell true from false here (AUC %.2f): nothing is rejected", client.model.name, scale.auc)
    kept, rejects = judge_faithfulness(client, drafts, scale, most, language)
    shares = [share for draft in drafts for share in draft.get("unsupported", [])]
    mean = round(sum(shares) / len(shares), 4) if shares else 0.0
    return kept, rejects, {"faithfulness": asdict(scale) | {"useful": scale.useful}, "unsupported": mean}
