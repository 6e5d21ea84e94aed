"""The demonstration keeps its promises: what it says is true of its own run."""

import pytest

from refrm.demo import CENTRED, MISTAKEN, PLAIN, explain, train

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def results():
    return train(0.01, 1500, 0)


def test_scores_inflate_and_stop_inflating(results):
    first = results[PLAIN].history[0]
    plain, centred, mistaken = (results[name].history[-1] for name in (PLAIN, CENTRED, MISTAKEN))
    assert plain["mean_score"] > first["mean_score"] + 3 and plain["spread"] > 4
    assert abs(centred["mean_score"]) < 0.1 and centred["spread"] < 1
    # The margin is kept, and what is learned; the mistake takes the margin and leaves the scores inflated.
    assert centred["mean_margin"] > 0.8 * plain["mean_margin"] > 1.4 * mistaken["mean_margin"]
    assert centred["heldout_accuracy"] >= plain["heldout_accuracy"] - 0.02
    assert mistaken["spread"] > 2 * centred["spread"] and mistaken["mean_score"] > 1


def test_the_sentences_have_the_run_s_own_numbers(results):
    why, what, mistake = explain(results, 0.01)
    plain, centred, mistaken = (results[name].history[-1] for name in (PLAIN, CENTRED, MISTAKEN))
    assert f"to {plain['mean_score']:.2f} with pair means spread by {plain['spread']:.2f}" in why
    mean_s2 = 4 * (centred["mean_score"] ** 2 + centred["spread"] ** 2)
    start = results[CENTRED].history[0]
    bound = (start["loss"] + start["penalty"]) / 0.01
    assert f"keeps mean s^2 = {mean_s2:.3g} within J0/lambda = {bound:.3g}" in what and mean_s2 <= bound
    assert f"pulls on the margin ({mistaken['mean_margin']:.2f})" in mistake


def test_where_the_mistake_does_not_show_the_sentence_says_so(results):
    same = {**results, MISTAKEN: results[CENTRED]}
    assert "which so few steps do not show yet" in explain(same, 0.01)[2]


def test_all_three_start_alike(results):
    starts = [result.history[0]["mean_score"] for result in results.values()]
    assert starts[0] == starts[1] == starts[2]
