"""What DPO did to pairs that it trained on and to pairs that it never saw, side by side, source by source.

The implicit reward of an answer is β times its log-ratio to the reference (Rafailov et al. 2023, arXiv 2305.18290). On
training pairs its accuracy shows memory; only held-out pairs show a preference. A margin may also grow while chosen
answers become less likely, hence their own log-ratio beside it (likelihood displacement: Razin et al. 2024, arXiv
2410.05779), and the answers may grow longer (Park et al. 2024, arXiv 2403.19159).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

from kyara_utils.models.loading import load_model
from kyara_utils.runs.tables import Row, sample
from kyara_utils.stats.intervals import bootstrap_mean, paired_bootstrap, wilson
from kyara_utils.training.by_hand import answer_logprob
from kyara_utils.training.pair_rows import SIDES

COMPARED = 256  # pairs at most of each split, drawn by seed: a share is then known within 6 points
ALL = "all"


def pair_report(
    models: Mapping[str, Path], reference: Path, splits: Mapping[str, Sequence[Row]], beta: float, seed: int = 0
) -> list[Row]:
    """Return a row for each model, split and source, and for all sources of a split; rows of `pair_figures`.

    models: folders by name; splits: pairs with token ids by name, such as training and held_out. At most `COMPARED`
    pairs of a split are looked at. Models are loaded one after the other.
    """
    drawn = {name: sample(list(pairs), COMPARED, seed) for name, pairs in splits.items()}
    before = {name: logprobs(reference, pairs) for name, pairs in drawn.items()}
    rows = []
    for model, folder in models.items():
        for split, pairs in drawn.items():
            after = logprobs(folder, pairs)
            ratios = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(after, before[split], strict=True)]
            rows += [{"model": model, "split": split} | row for row in _by_source(pairs, ratios, beta, seed)]
    return rows


def logprobs(folder: Path, pairs: Sequence[Row]) -> list[tuple[float, float]]:
    """Return log p of the chosen and of the rejected answer of each pair, in nats."""
    if not pairs:
        return []
    model = load_model(folder).eval()
    return [tuple(answer_logprob(model, row["prompt_ids"], row[f"{side}_ids"]) for side in SIDES) for row in pairs]


def _by_source(pairs: Sequence[Row], ratios: Sequence[tuple[float, float]], beta: float, seed: int) -> Iterable[Row]:
    for source in (ALL, *sorted({row["source"] for row in pairs})) if pairs else ():
        places = [at for at, row in enumerate(pairs) if source in (ALL, row["source"])]
        tokens = [len(pairs[at]["chosen_ids"]) for at in places]
        yield {"source": source} | pair_figures([ratios[at] for at in places], tokens, beta, seed)


def pair_figures(ratios: Sequence[tuple[float, float]], tokens: Sequence[int], beta: float, seed: int = 0) -> Row:
    """Return what log-ratios (of chosen and rejected, nats) say of at least one pair; tokens: of the chosen answers.

    n; accuracy, the share with chosen above rejected, with Wilson's interval (low, high); margin in units of β ×
    log-ratio with its bootstrap interval (margin_low, margin_high); chosen, the mean log-ratio of
    chosen answers in nats, with its interval (chosen_low, chosen_high): no divergence, since the policy did not write
    them; per_token, the same by token; displaced, the share of chosen answers less likely than under the reference;
    rejected, the mean log-ratio of rejected answers.
    """
    chosen, other = zip(*ratios, strict=True)
    right = sum(one > two for one, two in ratios)
    figures = {"n": len(ratios), "accuracy": right / len(ratios)}
    figures |= dict(zip(("low", "high"), wilson(right, len(ratios)), strict=True))
    margins = bootstrap_mean([beta * (one - two) for one, two in ratios], seed=seed)
    figures |= dict(zip(("margin", "margin_low", "margin_high"), margins, strict=True))
    figures |= dict(zip(("chosen", "chosen_low", "chosen_high"), bootstrap_mean(chosen, seed=seed), strict=True))
    return figures | {
        "per_token": sum(chosen) / sum(tokens), "displaced": mean(one < 0 for one in chosen), "rejected": mean(other),
    }  # fmt: skip


def reward_lines(rows: Sequence[Row]) -> list[str]:
    """Return the figures of training and held-out pairs for people, a line for each model, source and split."""
    order = sorted(
        rows, key=lambda row: (row["model"], row["source"] != ALL, row["source"], row["split"] == "held_out")
    )
    return [
        f"{row['model']:11} {row['source']:16} {row['split']:9} n {row['n']:3}: reward accuracy {row['accuracy']:.2f} "
        f"[{row['low']:.2f}, {row['high']:.2f}], margin {row['margin']:+.3f} [{row['margin_low']:+.3f}, "
        f"{row['margin_high']:+.3f}], chosen {row['chosen']:+.2f} nats ({row['per_token']:+.3f} a token, "
        f"{row['displaced']:.0%} less likely), rejected {row['rejected']:+.2f}"
        for row in order
    ]


def length_drift(sources: Sequence[str], before: Sequence[Row], after: Sequence[Row], seed: int = 0) -> list[Row]:
    """Return how long answers to the same questions were before and after, by source of the question and over all.

    before, after: rows of `generation_test` in the order of `sources`. Rows: source, n, before, after (mean
    characters), change with its paired bootstrap interval (low, high).
    """
    rows = []
    for source in (ALL, *sorted(set(sources))) if sources else ():
        places = [at for at, one in enumerate(sources) if source in (ALL, one)]
        old, new = ([float(len(found[at]["answer"])) for at in places] for found in (before, after))
        change, low, high, _ = paired_bootstrap(new, old, seed=seed)
        row = {"source": source, "n": len(places), "before": mean(old), "after": mean(new)}
        rows.append(row | {"change": change, "low": low, "high": high})
    return rows


def drift_lines(rows: Sequence[Row]) -> list[str]:
    """Return rows of `length_drift` for people."""
    return [
        f"length {row['source']}: {row['before']:.0f} → {row['after']:.0f} characters, {row['change']:+.0f} "
        f"[{row['low']:+.0f}, {row['high']:+.0f}], n {row['n']}"
        for row in rows
    ]
