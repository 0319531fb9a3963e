"""Bradley–Terry scores of judged battles and their bootstrap: the mathematics of Arena-Hard v0.1.

A joint logistic fit without intercept: the two models of a battle have features ±ln 10, a tie is one win for each
side, score = 400·coefficient + 1000 (Chiang et al. 2024, arXiv 2403.04132). Resampling draws battles with replacement;
since only the counts of equal battles matter, a multinomial draw of counts gives the same distribution at once.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.logistic import fit_logistic

SCALE, START, BASE = 400.0, 1000.0, 10.0


def win_rate(score: float, baseline: float) -> float:
    """Expected share of wins against the baseline, in percent, from two Bradley–Terry scores."""
    return 100 / (1 + BASE ** ((baseline - score) / SCALE))


def _design(battles: Sequence[dict[str, Any]], models: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, models), soft labels (n,) and weights (n,): every battle counts twice, a tie once for each side."""
    place = {model: position for position, model in enumerate(models)}
    features = np.zeros((len(battles), len(models)))
    rows = np.arange(len(battles))
    features[rows, [place[battle["model_a"]] for battle in battles]] += math.log(BASE)
    features[rows, [place[battle["model_b"]] for battle in battles]] -= math.log(BASE)
    labels = np.array([{"model_a": 1.0, "model_b": 0.0}.get(battle["winner"], 0.5) for battle in battles])
    return features, labels, 2 * np.array([float(battle.get("weight", 1)) for battle in battles])


def _names(battles: Sequence[dict[str, Any]], baseline: str) -> list[str]:
    names = list(dict.fromkeys(battle[side] for battle in battles for side in ("model_a", "model_b")))
    if baseline not in names:
        raise KyaraError(f"no battle has the baseline {baseline}; name the model that the judgments compare with")
    return names


def _scores(theta: np.ndarray, models: Sequence[str], baseline: str, anchor: float) -> dict[str, float]:
    scores = dict(zip(models, SCALE * theta[: len(models)] + START, strict=True))
    return {model: float(score + anchor - scores[baseline]) for model, score in scores.items()}


def _gathered(battles: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One battle for each (model_a, model_b, winner), with the summed weight."""
    total: dict[tuple, float] = {}
    for battle in battles:
        key = (battle["model_a"], battle["model_b"], battle["winner"])
        total[key] = total.get(key, 0) + battle.get("weight", 1)
    return [dict(zip(("model_a", "model_b", "winner"), key, strict=True)) | {"weight": n} for key, n in total.items()]


def bradley_terry(battles: Sequence[dict[str, Any]], baseline: str, anchor: float = START) -> dict[str, float]:
    """Score of every model from battles {model_a, model_b, winner (model_a|model_b|tie), weight}.

    The baseline is shifted to `anchor`. A model that won or lost everything gets a large finite score.
    """
    models = _names(battles, baseline)
    return _scores(fit_logistic(*_design(_gathered(battles), models)), models, baseline, anchor)


def bootstrap_scores(
    battles: Sequence[dict[str, Any]], baseline: str, n: int = 100, seed: int = 42, anchor: float = START
) -> dict[str, np.ndarray]:
    """n Bradley–Terry scores per model, each from as many battles (by weight) as there are, drawn with replacement."""
    models, cells = _names(battles, baseline), _gathered(battles)
    features, labels, weights = _design(cells, models)
    total, start = round(weights.sum() / 2), fit_logistic(features, labels, weights)
    generator, found = np.random.default_rng(seed), []
    for _ in range(n):
        drawn = 2.0 * generator.multinomial(total, weights / weights.sum())
        found.append(_scores(fit_logistic(features, labels, drawn, start=start), models, baseline, anchor))
    return {model: np.array([scores[model] for scores in found]) for model in models}
