"""Form of all that a model wrote in step 08: does it end, in which script and words, is the template whole?

Nothing is asked for it: it reads the answers to the other benchmarks, also those that a judge compares. What a prompt
itself holds (a quotation, a document's word) is no fault of the answer, and a prompt in Simplified characters may be
answered in them.
"""

import json
import re
from collections.abc import Sequence

from kyara_utils.evaluation import ratios, summary
from kyara_utils.evaluation.benchmark import Benchmark, Given, Questions, Source
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scoring import UNSCORED, outcome
from kyara_utils.runs.tables import Row
from kyara_utils.text.normalise import count_scripts, script_characters, script_of
from kyara_utils.text.script_leaks import mainland_term

# Tokens of the usual chat templates, and a line that is nothing but a role: what is left of a turn's header in text.
TEMPLATE = re.compile(
    r"<\|[a-z_]{2,20}\|>|<(?:start|end)_of_turn>|</?s>|<(?:bos|eos|pad)>|\[/?INST\]|^(?:user|model|assistant)$", re.M
)
CHECKS = {
    "ends by itself": "ended", "no Simplified character": "traditional", "no mainland term": "taiwanese",
    "template intact": "intact",
}  # fmt: skip
RULE = "all greedy answers of the run; a stop text counts as an end"


@register
class Form(Benchmark):
    """Rows of answers, not of questions; `miniature`, since it is nobody's benchmark."""

    name = "form"
    miniature = True
    metric = ""  # shares of several kinds and no headline

    def load(self, source: Source) -> Questions:
        """No question of its own."""
        return Questions([], note="reads the answers to the others")

    def score_others(self, given: Sequence[Given]) -> list[Row]:
        """A row {outcome, `CHECKS`, kept[], simplified, han, …} for each answer; equal answers to one item once."""
        once: dict[tuple[str, str, str], Given] = {}
        for one in given:
            once.setdefault((one.model, one.item["id"], one.response["text"]), one)
        return [_row(self.name, one) for one in once.values()]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """`CHECKS` by answer, instructions kept, and the share of Simplified among Han characters."""
        scores = []
        for (model,), mine in summary.by(rows, "model").items():
            for metric, field in CHECKS.items():
                known = [row[field] for row in mine if row[field] != UNSCORED]
                scores.append(summary.proportion(self.name, model, metric, known, RULE))
            for metric, fields in (("instructions kept", ("obeyed", "asked")), ("Simplified", ("simplified", "han"))):
                parts = [(float(row[fields[0]]), float(row[fields[1]])) for row in mine]
                n = int(sum(bottom for _, bottom in parts))
                scores.append(ratios.ratio_row(self.name, model, metric, parts, n, 0, RULE))
        return scores

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Of `CHECKS`, on the items that both models have answered."""
        found = [
            {"metric": metric} | row
            for metric, field in CHECKS.items()
            for pair in pairs
            if (row := summary.compare_shared(rows, *pair, field))
        ]
        return [{"benchmark": self.name} | row for row in found]


def _row(name: str, given: Given) -> Row:
    text, prompt = given.response["text"], json.dumps(given.item, ensure_ascii=False, default=str)
    free = script_of(given.benchmark.text(given.item)) == "zh-Hans"
    leaked = [] if free else [c for c in text if c in script_characters()[0] and c not in prompt]
    ended = given.response.get("finish_reason", "")
    checks = {
        "ended": outcome(ended == "stop") if ended else UNSCORED,
        "traditional": UNSCORED if free else outcome(not leaked),
        "taiwanese": UNSCORED if free else outcome(not mainland_term(text, sources=[prompt])),
        "intact": outcome(bool(text.strip()) and not TEMPLATE.search(text)),
    }
    kept = given.benchmark.obeyed(given.item, text)
    counted = {"simplified": len(leaked), "han": 0 if free else int(count_scripts([text])[0][0])}
    return {
        "benchmark": name, "model": given.model, "id": f"{given.benchmark.name}/{given.item['id']}", "text": "",
        "outcome": checks["intact"], "obeyed": sum(kept), "asked": len(kept), **checks, **counted,
    }  # fmt: skip
