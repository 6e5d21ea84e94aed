"""Small embedded data, and a generator of pairs on which scores drift."""

from dataclasses import dataclass

import numpy as np

from refrm.losses import check_number
from refrm.errors import InputError
from refrm.spec import Array, sigmoid


@dataclass(frozen=True, eq=False)
class Pairs:
    """Preference pairs: features of shape (N, p) and, where it is known, the true reward of each response, shape (N,)."""

    chosen: Array
    rejected: Array
    reward_w: Array | None = None
    reward_l: Array | None = None
    weight: Array | None = None
    names: tuple[str, ...] = ()


def make_pairs(
    n_pairs: int = 1000, n_features: int = 32, *, shared: float = 1.0, strength: float = 2.0, seed: int = 0
) -> Pairs:
    """Return synthetic pairs whose two responses share features, so that scores drift under the pairwise loss alone (T6).

    Each pair has a prompt vector c ~ N(shared*u, shared^2*I) that both responses contain, and two response vectors
    a, b ~ N(0, I): the features are c + a and c + b. The true reward of a response is strength*u.a for its own vector a, with u a random
    unit vector; the prompt adds nothing to it. The chosen response is drawn with probability sigma(difference of true rewards). A model
    that learns the direction u from the differences also scores the common part, mean shared*u: the mean score drifts up by
    about shared*|w| (T6), and the spread of c spreads the pair means.

    Parameters
    ----------
    n_pairs, n_features : int
        Shape of the features.
    shared : float
        Size of the part that both responses share; 0 leaves no drift.
    strength : float
        Size of the true reward; the larger, the fewer labels contradict it.
    seed : int
        The same seed gives the same bits.
    """
    for name, value in (("n_pairs", n_pairs), ("n_features", n_features)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} must be an integer >= 1, got {value!r}")
    check_number("shared", shared, 0.0)
    check_number("strength", strength, 0.0)
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n_features)
    u /= np.linalg.norm(u)
    c = shared * (u + rng.standard_normal((n_pairs, n_features)))
    own = rng.standard_normal((2, n_pairs, n_features))
    reward = strength * own @ u
    first = rng.random(n_pairs) < sigmoid(reward[0] - reward[1])
    winner, rows = np.where(first, 0, 1), np.arange(n_pairs)
    return Pairs(
        c + own[winner, rows], c + own[1 - winner, rows], reward[winner, rows], reward[1 - winner, rows]
    )


def load_baseball() -> Pairs:
    """Return the 1987 American League season, East division: one-hot teams, one row per ordered pair of teams, weighted by wins.

    From Agresti, Categorical Data Analysis. Teams: Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore. The published
    maximum-likelihood abilities relative to Baltimore are 1.58 1.44 1.29 1.25 1.11 0.68 0.
    """
    names = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ]
    )
    row, column = np.nonzero(wins)
    teams = np.eye(len(names))
    return Pairs(teams[row], teams[column], weight=wins[row, column].astype(float), names=names)
