"""One damped Newton fit for every logistic model here: Bradley–Terry, style control, length control.

numpy alone, because the published figures come from models of a few dozen parameters.
"""

from collections.abc import Callable

import numpy as np

from kyara_utils.runs.errors import KyaraError

SMOOTH = 1e-10  # |x| as √(x² + SMOOTH): an L1 penalty with derivatives
LONGEST = 2.0  # where the curvature vanishes, a full step would leave for infinity
Terms = tuple[float, np.ndarray, np.ndarray]  # value, gradient, Hessian


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def logistic_terms(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, theta: np.ndarray) -> Terms:
    """Weighted log-loss of soft labels in [0, 1], with gradient and Hessian; features are (n, k), theta is (k,)."""
    scores = features @ theta
    probabilities = sigmoid(scores)
    value = float(weights @ (np.logaddexp(0, scores) - labels * scores))
    curvature = weights * probabilities * (1 - probabilities)
    hessian = (features * curvature[:, None]).T @ features
    return value, features.T @ (weights * (probabilities - labels)), hessian


def _penalty(theta: np.ndarray, l1: float, l2: float) -> Terms:
    size = np.sqrt(theta**2 + SMOOTH)
    value = float(l1 * size.sum() + l2 * (theta @ theta) / 2)
    return value, l1 * theta / size + l2 * theta, np.diag(l1 * SMOOTH / size**3 + l2)


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    l1: float = 0.0,
    l2: float = 1e-6,
    extra: Callable[[np.ndarray], Terms] | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Minimise weighted log-loss + l1·Σ|θ| + l2/2·Σθ² (+ `extra(θ)`), without intercept; returns θ of shape (k,).

    Labels are probabilities: 0.5 is one win for each side. The default l2 is far below any published digit; it only
    keeps the score of a model that never lost finite. Raises KyaraError when the numbers do not converge.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    theta = np.zeros(features.shape[1]) if start is None else np.array(start, float)

    def objective(point: np.ndarray) -> Terms:
        parts = [logistic_terms(features, labels, weights, point), _penalty(point, l1, l2)]
        parts += [extra(point)] if extra else []
        return tuple(sum(part[i] for part in parts) for i in range(3))

    value, gradient, hessian = objective(theta)
    for _ in range(200):
        direction = np.linalg.solve(hessian, -gradient)
        decrement = -gradient @ direction  # twice the gain still to be had; the step's error is of its square
        theta, (value, gradient, hessian) = _descend(objective, theta, direction, value, decrement)
        if decrement < 1e-12:
            return theta
    raise KyaraError("the logistic fit did not converge; look for constant or missing features in the judged rows")


def _descend(
    objective: Callable[[np.ndarray], Terms], theta: np.ndarray, direction: np.ndarray, value: float, decrement: float
) -> tuple[np.ndarray, Terms]:
    """Take the Newton step, at most LONGEST in any coordinate, halved until it gains enough (Armijo's rule)."""
    scale = min(1.0, LONGEST / max(float(np.abs(direction).max()), LONGEST))
    while True:
        point = theta + scale * direction
        found = objective(point)
        if found[0] <= value - 1e-4 * scale * decrement + 1e-12 * abs(value) or scale < 1e-12:
            return point, found
        scale /= 2
