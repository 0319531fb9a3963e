"""What the card of the preference pairs says: where each source's pairs come from, under which licence, and how long
they are; which judges were believed; what was held out. Read from step 06's tables and manifest, nothing is guessed.
"""

import json
from collections import Counter
from pathlib import Path

from kyara_utils.report.card_facts import columns_of, csv_of, data_languages, data_licence, example_of, size_category
from kyara_utils.report.data_sets import PREFERENCES, REJECTS, TEST, TRAIN, pair_sets
from kyara_utils.report.site.entries import PAIRS, Found, path_of
from kyara_utils.runs import iter_rows
from kyara_utils.runs.tables import Row

READ = ("id", "source", "chosen_model", "rejected_model", "verdicts", "rejected_cut", "step")
VERIFIED, MADE = "verified_", {
    "rlaif": "answers of several models to one prompt, judged in both orders; the same answer won both times",
    "spin": "the training answer against the student's own answer to the same prompt",
    "sppo": "several answers of the student, ranked by a judge: the best against the worst",
    "verified_": "answers of the student to a question whose answer is known: one that an exact check finds right "
    "against one that it finds wrong, of like length",
    "step_dpo": "the first wrong step of the student's solution, found by recomputing, against a corrected step",
}  # fmt: skip
PUBLISHED = "a published set, or a file of the user's"


def pair_facts(found: Found, data: Path, licence: str = "") -> Row:
    """Facts of the preference card: `data` is 09's folder of tables; `licence` as in `card_facts.data_facts`."""
    sets = pair_sets(found)
    rejects = path_of(found, PAIRS, REJECTS)
    rules = Counter(row["rule"] for row in iter_rows(rejects, ["rule"])) if rejects else Counter()
    known = data_licence(found, licence)
    return {
        "sets": sets, "columns": columns_of(sets), "example": example_of(sets), "licence": known,
        "languages": data_languages(data), "size": size_category(sets, PREFERENCES),
        "sources": _sources(sets, known["documents"]), "lengths": csv_of(found, PAIRS, "sources"),
        "judges": csv_of(found, PAIRS, "judge_tests"), "rules": rules.most_common(),
    }  # fmt: skip


def _sources(sets: list, own: str) -> list[Row]:
    """{source, made, train, test, steps, cut, chosen, rejected, licence} of each source, in the tables' order."""
    found: dict[str, Row] = {}
    for one in sets:
        for row in one.rows(READ):
            line = found.setdefault(row["source"], _new(row["source"]))
            line[one.split] += 1
            line["steps"] += bool(row["step"])
            line["cut"] += bool(row["rejected_cut"])
            for side in ("chosen", "rejected"):
                line[side][row[f"{side}_model"] or "not named"] = None
            line["licences"][json.loads(row["verdicts"] or "{}").get("licence", "")] = None
    return [
        row | {"licence": ", ".join(filter(None, row["licences"])) or _unstated(row, own)} for row in found.values()
    ]


def _new(source: str) -> Row:
    made = MADE.get(VERIFIED if source.startswith(VERIFIED) else source, PUBLISHED)
    counts = dict.fromkeys((TRAIN, TEST, "steps", "cut"), 0)
    return {"source": source, "made": made} | counts | {"chosen": {}, "rejected": {}, "licences": {}}


def _unstated(row: Row, own: str) -> str:
    return "not known to this run" if row["made"] == PUBLISHED else f"{own}, and the terms of the models that wrote it"
