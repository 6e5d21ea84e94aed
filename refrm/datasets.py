"""Small embedded data, and a generator of pairs on which scores drift."""

from dataclasses import dataclass

import numpy as np

from refrm.checks import check_integer, check_number
from refrm.spec import Array, sigmoid


@dataclass(frozen=True, eq=False)
class Pairs:
    """Preference pairs: features of shape (N, p) and, where it is known, the true reward of each response, shape
    (N,).
    """

    chosen: Array
    rejected: Array
    reward_w: Array | None = None
    reward_l: Array | None = None
    weight: Array | None = None
    names: tuple[str, ...] = ()


def make_pairs(
    n_pairs: int = 1000, n_features: int = 32, *, shared: float = 2.0, strength: float = 2.0, seed: int = 0
) -> Pairs:
    """Return synthetic pairs whose two responses share features, so that scores drift under the pairwise loss alone
    (T6).

    With u and v two random orthogonal unit vectors, the features of both responses of a pair contain the same part of
    their prompt, shared*((1 + z)*u + z*v) with z ~ N(0, 1); one adds a ~ N(0, I) without a component along v, the
    other -a. Their true rewards are strength*u.a and -strength*u.a; the prompt adds nothing to them. The chosen
    response is drawn with probability sigma(difference of true rewards).

    A model learns u from the differences, and u also scores the prompt: the mean score drifts by about shared*|w|,
    and z spreads the pair means. The differences say nothing about v, so nothing in the pairwise loss subtracts that
    part again, although -v and a bias would do so at no cost to any margin; a penalty on r_w + r_l finds them.

    Parameters
    ----------
    n_pairs, n_features : int
        Shape of the features; at least 1 and 2.
    shared : float
        Size of the part that both responses share; 0 leaves no drift.
    strength : float
        Size of the true reward; the larger, the fewer labels contradict it.
    seed : int
        The same seed gives the same bits.

    Returns
    -------
    Pairs
        Features ``chosen``, ``rejected`` and true rewards ``reward_w``, ``reward_l``.

    Raises
    ------
    InputError
        For a size below its minimum or a negative number.
    """
    for name, value, least in (("n_pairs", n_pairs, 1), ("n_features", n_features, 2), ("seed", seed, 0)):
        check_integer(name, value, least)
    check_number("shared", shared, 0.0)
    check_number("strength", strength, 0.0)
    rng = np.random.default_rng(seed)
    u, v = np.linalg.qr(rng.standard_normal((n_features, 2)))[0].T
    z = rng.standard_normal((n_pairs, 1))
    prompt = shared * ((1 + z) * u + z * v)
    own = rng.standard_normal((n_pairs, n_features))
    own -= (own @ v)[:, None] * v
    own = np.stack([own, -own])
    reward = strength * own @ u
    winner = np.where(rng.random(n_pairs) < sigmoid(reward[0] - reward[1]), 0, 1)
    rows = np.arange(n_pairs)
    chosen, rejected = (winner, rows), (1 - winner, rows)
    return Pairs(prompt + own[chosen], prompt + own[rejected], reward[chosen], reward[rejected])


def load_baseball() -> Pairs:
    """Return the 1987 American League season, East division: one-hot teams, one row per ordered pair of teams,
    weighted by wins.

    From Agresti, Categorical Data Analysis. Teams: Milwaukee, Detroit, Toronto, New York, Boston, Cleveland,
    Baltimore. The published maximum-likelihood abilities relative to Baltimore are 1.58 1.44 1.29 1.25 1.11 0.68 0.
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
