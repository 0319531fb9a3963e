"""Pairs of answers whose right verdict is known: by people's labels, or because one answers another question."""

from dataclasses import dataclass
from pathlib import Path

from kyara_utils.preference.judge import Pair
from kyara_utils.runs import content_id, reject, sample
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row, read_any

STEP = "06_dpo_pair_judging"
# Columns (prompt, first answer, second answer) and what the labels mean, by layout.
LAYOUTS = (
    (("prompt", "first", "second"), {"first": "first", "second": "second", "tie": "tie"}),
    (("prompt", "response 1", "response 2"), {"0": "first", "1": "second", "2": "tie"}),  # Auto-J, arXiv 2310.05470
    (("input", "output_1", "output_2"), {"1": "first", "2": "second"}),  # LLMBar, arXiv 2310.07641
)


@dataclass(frozen=True)
class LabelledPair:
    """A pair and the verdict that is right for it: `first`, `second` or `tie`."""

    pair: Pair
    label: str


def read_labelled(path: Path, n: int = 0, seed: int = 0) -> tuple[list[LabelledPair], list[Row]]:
    """Return `n` pairs with human labels (all for 0), drawn by seed, of a .jsonl, .jsonl.gz or .parquet; and rejects.

    Layouts: ours {prompt, first, second, label (first|second|tie), model_first, model_second}, Auto-J's and LLMBar's.
    Rejects: no_label, and empty (a side without an answer). Raises `KyaraError` for a file of any other layout.
    """
    rows = read_any(Path(path))
    known = [layout for layout in LAYOUTS if rows and {*layout[0], "label"} <= rows[0].keys()]
    if not known:
        raise KyaraError(f"{path} holds no labelled pairs; each row needs prompt, first, second and label")
    found = [_labelled(row, *known[0]) for row in rows]
    kept = [item for item in found if isinstance(item, LabelledPair)]
    drawn = sample([{"id": item.pair.id, "item": item} for item in kept], n, seed)
    return [row["item"] for row in drawn], [item for item in found if not isinstance(item, LabelledPair)]


def _labelled(row: Row, columns: tuple[str, str, str], labels: dict[str, str]) -> LabelledPair | Row:
    prompt, first, second = (str(row.get(name) or "") for name in columns)
    label = labels.get(str(row.get("label")))
    key = content_id(prompt, first, second, prefix="pair_", n=12)
    if label is None or not prompt.strip():
        return reject(STEP, "no_label", row | {"id": key})
    if not first.strip() or not second.strip():
        return reject(STEP, "empty", row | {"id": key})
    models = (str(row.get("model_first") or ""), str(row.get("model_second") or ""))
    return LabelledPair(Pair(key, prompt, first, second, models), label)


def known_pairs(rows: list[tuple[str, str]]) -> list[LabelledPair]:
    """Pair each (prompt, answer) with the next row's answer, which answers another question; the right one is first
    in every other pair, so that a judge who always says "first" is at chance.

    A judge that cannot tell these should not be believed about finer differences.
    """
    others = [*rows[1:], *rows[:1]] if len(rows) > 1 else []
    found = []
    for number, ((prompt, answer), (_, other)) in enumerate(zip(rows, others, strict=False)):
        if answer.strip() != other.strip():
            sides, label = ((answer, other), "first") if number % 2 == 0 else ((other, answer), "second")
            found.append(LabelledPair(Pair(f"known-{number}", prompt, *sides), label))
    return found
