"""What more training would bring: a prediction, from the points that a run has."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import curve_fit

FEWEST = 4
"""Points of training below which there is no prediction: the law has three parameters."""


def predicted_loss(points: Sequence[tuple[int, float]], tokens: int) -> float | None:
    """The loss after `tokens` of training, from (tokens, loss) points, those without training left out.

    The P^2 law (Chen et al. 2024, arXiv 2411.10272) for one model and one pruning rate: all of its terms but that of
    the tokens D are constants then, so that L = E + B / D^beta, here with B and beta of at least 0.

    Returns:
        None for fewer than `FEWEST` points, or where no such law goes through them.
    """
    known = [(count, loss) for count, loss in points if count > 0]
    if len(known) < FEWEST:
        return None
    counts, losses = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    scale, spread = counts.max(), max(float(np.ptp(losses)), 1e-9)

    def law(count: np.ndarray, least: float, height: float, power: float) -> np.ndarray:
        return np.asarray(least + height * (count / scale) ** -power)

    start = (losses.min() - spread, spread, 0.5)
    try:
        best, _ = curve_fit(law, counts, losses, start, bounds=([-np.inf, 0, 0], [np.inf, np.inf, 3]), maxfev=5000)
    except RuntimeError:
        return None
    value = float(law(np.array(float(tokens)), *best))
    return value if np.isfinite(value) else None
