"""AlpacaEval's length control: a logistic model asks what the win rate would be were both answers equally long.

Dubois et al. 2024 (arXiv 2404.04475), reference `metrics/glm_winrate.py` of tatsu-lab/alpaca_eval:
logit P(model wins) = a·tanh(z) + b·difficulty + c, z the length difference (baseline − model, characters) over its
sample standard deviation. The difficulty term stays: without it the rate moves by seven points on average.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.evaluation.judged.judgment_files import read_table, reading
from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.logistic import Terms, fit_logistic, sigmoid

L1 = 10 ** (-4 / 9)  # 1/C at the grid point of the cross-validation that most published weights show
# The reference adds 2 × 805 rows of the baseline told to be concise and to be verbose, each of weight 0.1. They are
# not published. Their lengths are modelled from the baseline's own: mean × L^power × log-normal noise, with the
# published mean lengths, and power and noise chosen so that published win rates and weights are stationary. Their
# labels enter only through two sums: those that the two baselines' published weights imply, put right by what the
# stationarity of other models' published weights says of the sums (-182.692 and 412.96 over all 805 instructions).
GAMED_WEIGHT = 0.1
GAMED = (  # (mean length, power, noise), (weight of tanh(z), of difficulty, bias)
    ((1136.0, 0.992, 0.292), (-1.6424856, 0.6835779, -0.3182055)),
    ((2402.0, 0.821, 0.174), (-1.5835274, 0.8334888, 0.1923535)),
)
GAMED_CORRECTION = (4.0596, 3.3743)  # Σ label·tanh(z), Σ label·difficulty
GAMED_ROWS = 805  # instructions behind the sums
SHORTEST = 20  # characters; shorter baseline answers would let the power law run away
DIFFICULTY = Path("tatsu-lab+alpaca_eval/instruction_difficulty.csv")  # on the Hub only; without it no length control
GRID = 32  # cells per axis into which the modelled rows are gathered


def load_difficulty(path: Path) -> np.ndarray:
    """Read the per-instruction difficulty (a CSV of index and value), as an array in instruction order."""
    rows = read_table(path)
    with reading(path):
        found = {int(list(row.values())[0]): float(list(row.values())[1]) for row in rows}
        values = np.array([found[index] for index in range(len(found))])
        if not len(values) or not np.isfinite(values).all():
            raise ValueError("no rows, or a difficulty that is no number")
    return values


def find_difficulty(roots: Sequence[Path], n: int) -> list[float | None]:
    """Difficulty of each of n instructions from the first root that holds the file; all None without as many."""
    place = next((root / DIFFICULTY for root in roots if (root / DIFFICULTY).is_file()), None)
    values = load_difficulty(place) if place else []
    return [float(value) for value in values] if len(values) == n else [None] * n


def difficulties(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Difficulty of each row's instruction, or None where length control has no meaning.

    That is where a difficulty is unknown, only some instructions were asked, or all lengths differ by as much.
    """
    values = [row.get("difficulty") for row in rows]
    whole = {row["question_id"] for row in rows} == set(range(len(rows)))
    lengths = {len(row["output_1"]) - len(row["output_2"]) for row in rows}
    return np.array(values, dtype=float) if whole and None not in values and len(lengths) > 1 else None


def _gamed_lengths(baseline: np.ndarray, mean: float, power: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return tanh(z) of the modelled rows, shape (n, nodes), and the weight of each node."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    lengths = np.maximum(baseline, SHORTEST)[:, None] ** power * np.exp(noise * nodes)
    lengths *= mean / (lengths @ weights).mean()
    difference = baseline[:, None] - lengths
    spread = np.sqrt((((difference - (difference @ weights).mean()) ** 2) @ weights).mean())
    return np.tanh(difference / spread), weights


def gamed_rows(baseline: np.ndarray, difficulty: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (cells, 2), weights (cells,) and label sums (2,) that stand for the reference's gamed baseline rows."""
    columns, weights, sums = [], [], np.array(GAMED_CORRECTION)
    for lengths, (slope, steep, bias) in GAMED:
        tanh, nodes = _gamed_lengths(baseline, *lengths)
        features = np.column_stack([tanh.ravel(), np.repeat(difficulty, len(nodes))])
        weight = np.tile(nodes, len(baseline)) * GAMED_ROWS / len(baseline)
        sums = sums + features.T @ (weight * sigmoid(features @ [slope, steep] + bias))
        columns.append(features)
        weights.append(weight)
    return *_gather(np.concatenate(columns), np.concatenate(weights)), sums


def _gather(features: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace the rows of each cell of a GRID × GRID table by their mean and their summed weight: fast, and as good."""
    low, high = features.min(axis=0), features.max(axis=0)
    place = np.floor((features - low) / np.maximum(high - low, 1e-9) * (GRID - 1e-6)).astype(int)
    _, cell = np.unique(place @ [GRID, 1], return_inverse=True)
    total = np.bincount(cell, weight)
    return np.column_stack([np.bincount(cell, weight * column) / total for column in features.T]), total


def _regulariser(features: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> Callable[[np.ndarray], Terms]:
    """Log-loss of the gamed rows as a function of θ = (a, b, c); their labels enter through the two sums only."""
    full = np.zeros((3, 3))

    def terms(theta: np.ndarray) -> Terms:
        scores = features @ theta[:2]
        chance = sigmoid(scores)
        value = weights @ np.logaddexp(0, scores) - theta[:2] @ sums
        gradient = np.append(features.T @ (weights * chance) - sums, 0.0)
        hessian = full.copy()
        hessian[:2, :2] = (features * (weights * chance * (1 - chance))[:, None]).T @ features
        return GAMED_WEIGHT * value, GAMED_WEIGHT * gradient, GAMED_WEIGHT * hessian

    return terms


class LengthControl:
    """The fitted model of one set of annotations; see `fit`. Arrays are in instruction order, preferences in [0, 1]."""

    def __init__(self, preference: Sequence[float], baseline: Sequence[int], model: Sequence[int], difficulty):
        baseline, model = np.asarray(baseline, float), np.asarray(model, float)
        self.preference, self.difficulty = np.asarray(preference, float), np.asarray(difficulty, float)
        spread = np.std(baseline - model, ddof=1) if len(model) > 1 else 0.0
        if not spread:
            raise KyaraError("length control needs answers of different lengths; give at least two annotated rows")
        self.features = np.column_stack(
            [np.tanh((baseline - model) / spread), self.difficulty, np.ones(len(self.difficulty))]
        )
        self.known = ~np.isnan(self.preference)
        self.regulariser = _regulariser(*gamed_rows(baseline, self.difficulty))
        self.theta = self.fit(np.ones(len(self.preference)), None)

    def fit(self, weights: np.ndarray, start: np.ndarray | None) -> np.ndarray:
        """Return θ = (a, b, c) for these instruction weights; rows without a preference have no say."""
        kept = self.known
        return fit_logistic(
            self.features[kept], self.preference[kept], weights[kept], l1=L1, extra=self.regulariser,
            start=np.array([-1.5, 0.9, -1.0]) if start is None else start,
        )  # fmt: skip

    def rates(self, theta: np.ndarray | None = None) -> np.ndarray:
        """Fitted chance to win each instruction at equal length, in percent."""
        theta = self.theta if theta is None else theta
        return 100 * sigmoid(theta[1] * self.difficulty + theta[2])

    def bootstrap(self, n: int, seed: int = 0) -> np.ndarray:
        """n length-controlled win rates (percent), each refitted to instructions drawn with replacement.

        Equal seeds draw equal instructions, so the replicates of two models are paired.
        """
        generator, size, found = np.random.default_rng(seed), len(self.preference), np.empty(n)
        for position in range(n):
            weights = generator.multinomial(size, np.full(size, 1 / size)).astype(float)
            found[position] = weights @ self.rates(self.fit(weights, self.theta)) / size
        return found
