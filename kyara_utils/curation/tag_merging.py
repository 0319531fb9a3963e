"""InsTag's clean-up of open tags (Lu et al. 2023, arXiv 2308.07074, section 3.2): thousands of spellings to one set.

Four steps, each with its account. By spelling: forms that differ in case, marks or script (资讯, 資訊) are one tag.
By frequency: tags of few rows go. By meaning: a tag goes over to a more frequent one close to it. By association: tags
that always come together are parts of one expression. InsTag filters before it folds; here spellings add up first, so
that two scripts do not make one tag rare. It clusters meanings by DBSCAN, which joins chains; here the tag that stays
is itself within the threshold of each that goes over to it. Its one-way rules would take 二次方程 for 數學; here both
must imply each other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from kyara_utils.curation.tags import tag_form
from kyara_utils.runs.stored_rows import only
from kyara_utils.runs.tables import Row
from kyara_utils.text.folding import numbers
from kyara_utils.text.growing import Growing
from kyara_utils.text.normalise import search_text

if TYPE_CHECKING:
    import numpy as np

Embed = Callable[[list[str]], "np.ndarray"]  # tags to float32 [tags, dimensions] of length 1
CONFIDENCE = 0.99  # share of a tag's rows that must bear the other one (InsTag)
SUPPORT = 2  # times `alpha`: rows that must bear both (InsTag: 40, with alpha 20)


def merge_tags(
    lists: Sequence[Sequence[str]], embed: Embed, alpha: int, similarity: float
) -> tuple[list[list[str]], list[Row]]:
    """Return (tags of each row, without repeats; account {written, rows, tag, by} of every written form).

    lists: what the model named, row by row. alpha: fewest rows of a tag (InsTag: 20 of 306,044; 2 or 3 of a few
    hundred). similarity: cosine from which two tags mean the same (InsTag: 0.95 of PhraseBERT; multilingual E5 needs
    0.97, since 台灣歷史 and 中國歷史 have 0.957). `tag` is empty where the form was dropped. Tags are compared in
    pairs: good for some 20,000 different ones, in any number of rows.
    """
    written = Counter(tag for own in lists for tag in dict.fromkeys(own))
    form = {tag: shown for tag in written if (shown := tag_form(tag))}
    names, by = _by_spelling(written, form)
    _by_frequency(lists, names, by, alpha)
    _take_over(names, by, _by_meaning(_counts(lists, names), embed, similarity), "meaning")
    while pairs := _by_association(lists, names, SUPPORT * alpha):
        _take_over(names, by, pairs, "association")
    account = [
        {"written": tag, "rows": rows, "tag": names.get(tag, ""), "by": by.get(tag, "empty")}
        for tag, rows in sorted(written.items(), key=lambda item: (-item[1], item[0]))
    ]
    return [_named(own, names) for own in lists], account


def _named(own: Iterable[str], names: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(names[tag] for tag in own if tag in names))


def _counts(lists: Sequence[Sequence[str]], names: dict[str, str]) -> Counter[str]:
    """Rows of each name."""
    return Counter(name for own in lists for name in _named(own, names))


def _by_spelling(written: Counter[str], form: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return ({written: name}, {written: step}): the name is the form that most rows bear, of those that fold alike."""
    keys = {tag: search_text(shown) for tag, shown in form.items()}
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for tag, key in keys.items():
        rows[key][form[tag]] += written[tag]
    most = {key: min(forms, key=lambda shown: (-forms[shown], shown)) for key, forms in rows.items()}
    names = {tag: most[key] for tag, key in keys.items()}
    return names, {tag: "kept" if tag == name else "spelling" for tag, name in names.items()}


def _by_frequency(lists: Sequence[Sequence[str]], names: dict[str, str], by: dict[str, str], alpha: int) -> None:
    counts = _counts(lists, names)
    for tag in [tag for tag, name in names.items() if counts[name] < alpha]:
        del names[tag]
        by[tag] = "rare"


def _take_over(names: dict[str, str], by: dict[str, str], heirs: dict[str, str], step: str) -> None:
    for tag, name in names.items():
        if name in heirs:
            names[tag], by[tag] = heirs[name], step


def _by_meaning(counts: Counter[str], embed: Embed, similarity: float) -> dict[str, str]:
    """Return {name: more frequent name}; names that differ in a number or in + and # are never the same (c++, c#)."""
    import numpy as np

    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    if not ranked:
        return {}
    vectors = embed(ranked)
    kept, stay, heirs = Growing(np.float32, vectors.shape[1]), [], {}
    for name, vector in zip(ranked, vectors, strict=True):
        close = np.flatnonzero(kept.rows @ vector >= similarity)
        close = close[np.argsort(-(kept.rows[close] @ vector), kind="stable")]
        heir = next((stay[at] for at in close if _marks(stay[at]) == _marks(name)), None)
        if heir:
            heirs[name] = heir
        else:
            kept.extend(vector[None])
            stay.append(name)
    return heirs


def _marks(name: str) -> tuple[object, ...]:
    return (*numbers(name), name.count("#"), name.startswith("."))


def _by_association(lists: Sequence[Sequence[str]], names: dict[str, str], support: int) -> dict[str, str]:
    """Return {name: more frequent name} for pairs that imply each other; a name that takes over is not taken over."""
    counts, together = _counts(lists, names), Counter[tuple[str, str]]()
    for own in lists:
        together.update(combinations(sorted(_named(own, names)), 2))
    heirs: dict[str, str] = {}
    for (left, right), rows in sorted(together.items(), key=lambda item: (-item[1], item[0])):
        if rows < support or rows < CONFIDENCE * max(counts[left], counts[right]):
            continue
        heir, name = sorted((left, right), key=lambda one: (-counts[one], one))
        if not {heir, name} & (heirs.keys() | set(heirs.values())):
            heirs[name] = heir
    return heirs


def tag_measures(rows: Sequence[Row], refined: Sequence[Row]) -> dict[str, float]:
    """InsTag's measures: how many tags differ, the share of them that the refined set covers, mean tags of a row."""
    rows, refined = (only(part, "tags") for part in (rows, refined))
    known, covered = ({tag for row in part for tag in row["tags"]} for part in (rows, refined))
    mean = [round(sum(len(row["tags"]) for row in part) / max(1, len(part)), 2) for part in (rows, refined)]
    coverage = round(len(covered) / max(1, len(known)), 4)
    return {"tags": len(known), "coverage": coverage, "complexity": mean[0], "refined_complexity": mean[1]}
