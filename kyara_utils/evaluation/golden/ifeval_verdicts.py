"""Golden check of IFEval: our verdict on every instruction against the stored official one."""

from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation.golden.figures import Figure, failure, not_run
from kyara_utils.evaluation.golden.golden_files import read_named, read_records, record_files
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.scored import ifeval
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

RULES = ("strict", "loose")


def check(folder: Path) -> Iterator[Figure]:
    """Compare `ifeval/MODEL.{strict,loose}.jsonl[.gz]` with our verdicts on the same responses.

    One figure a file: stored verdicts, and how many of them ours equal. `RANDOM_KEYS` are left out. A verdict that
    another seed of langdetect, or one sentence more or less, would turn is random upstream too: it counts as equal
    and is named in the note. Prompts unknown to `input.jsonl` are left out and counted in the note.
    """
    place = Path(folder) / "ifeval"
    files = [(name, path) for name, path in record_files(place, leave_out=("input",)) if name.endswith(RULES)]
    if not files:
        return
    try:
        ifeval.checkers()
    except KyaraError as error:
        yield not_run("ifeval", error)
        return
    items = {row["prompt"].strip(): row for row in read_named(place, "input")}
    known: dict[tuple, tuple[list[bool], list[bool]]] = {}
    for name, path in files:
        try:
            stored = read_records(path)
            with reading(path):
                yield _figure(name, stored, items, known)
        except KyaraError as error:
            yield failure(f"ifeval {name}", error)


def _figure(name: str, stored: list[Row], items: dict[str, Row], known: dict) -> Figure:
    """`known` keeps verdicts per (key, response), since strict and loose files hold the same responses."""
    model, _, rule = name.rpartition(".")
    total, wrong, undecided, strangers = 0, [], [], 0
    for row in stored:
        item = items.get(row["prompt"].strip())
        if item is None or item["key"] in ifeval.RANDOM_KEYS:
            strangers += item is None
            continue
        place = (item["key"], row["response"])
        known[place] = known.get(place) or ifeval.verdicts(item, row["response"])
        pairs = zip(known[place][RULES.index(rule)], row["follow_instruction_list"], strict=True)
        for position, (ours, theirs) in enumerate(pairs):
            total += 1
            if ours != theirs:
                close = ifeval.undecided(item, position, row["response"], loose=rule == "loose")
                (undecided if close else wrong).append(item["key"])
    notes = [f"differs at {_keys(wrong)}"] if wrong else []
    notes += [f"random upstream at {_keys(undecided)}"] if undecided else []
    notes += [f"{strangers} prompts not in input"] if strangers else []
    published = float(total) if total else float("nan")
    return Figure(f"ifeval {model} {rule} verdicts", published, total - len(wrong), 0.0, note="; ".join(notes))


def _keys(keys: list[int]) -> str:
    return ", ".join(map(str, keys[:8])) + (" …" if len(keys) > 8 else "")
