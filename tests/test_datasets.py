"""The embedded data and the generator."""

import numpy as np
import pytest

from refrm import InputError, load_baseball, make_pairs
from refrm.spec import sigmoid


def test_make_pairs_is_what_it_says():
    pairs = make_pairs(4000, 6, shared=3.0, strength=1.5, seed=2)
    assert pairs.chosen.shape == pairs.rejected.shape == (4000, 6)
    # The responses' own parts are opposite, so that the mean of a pair is its prompt: a plane of two dimensions.
    prompt = (pairs.chosen + pairs.rejected) / 2
    sizes = np.linalg.svd(prompt, compute_uv=False)
    assert sizes[1] > 1 and sizes[2] < 1e-10
    np.testing.assert_allclose(pairs.reward_w, -pairs.reward_l, rtol=1e-12)
    # The true reward is linear in the own part, with |w| = strength, and says nothing about the prompt.
    own = (pairs.chosen - pairs.rejected) / 2
    w = np.linalg.lstsq(own, pairs.reward_w, rcond=None)[0]
    np.testing.assert_allclose(own @ w, pairs.reward_w, rtol=0, atol=1e-10)
    assert abs(np.linalg.norm(w) - 1.5) < 1e-10
    # Labels are drawn with probability sigma(d): the share of agreement is within 5 standard errors.
    agree = sigmoid(np.abs(pairs.reward_w - pairs.reward_l))
    expected, error = agree.mean(), 5 * np.sqrt((agree * (1 - agree)).mean() / 4000)
    assert abs(np.mean(pairs.reward_w > pairs.reward_l) - expected) <= error


def test_shared_is_the_size_of_the_prompt_s_part():
    none, some = make_pairs(50, 4, shared=0.0), make_pairs(50, 4, shared=2.0)
    assert np.abs(none.chosen + none.rejected).max() < 1e-14 < np.abs(some.chosen + some.rejected).max()


def test_the_same_seed_gives_the_same_bits():
    first, second, other = make_pairs(seed=3), make_pairs(seed=3), make_pairs(seed=4)
    assert first.chosen.tobytes() == second.chosen.tobytes() != other.chosen.tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_pairs": 0}, "n_pairs must be an integer >= 1, got 0"),
        ({"n_features": 1}, "n_features must be an integer >= 2, got 1"),
        ({"n_pairs": 2.0}, "n_pairs must be an integer"),
        ({"seed": True}, "seed must be an integer >= 0"),
        ({"shared": -1.0}, "shared must be a number"),
        ({"strength": np.nan}, "strength must be a number"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_pairs(**arguments)


def test_the_season():
    season = load_baseball()
    assert season.weight.sum() == 7 * 6 / 2 * 13  # every two teams met 13 times
    assert season.names[0] == "Milwaukee" and (season.chosen.sum(1) == 1).all() and (season.rejected.sum(1) == 1).all()
