"""The theorems of refrm as predicates: inputs -> `Verdict`, a residual and the bound that it must respect.

Each predicate holds over the reals exactly; over floats its bound is the theorem's own plus the rounding derived in its
docstring, with unit roundoff ``U`` = 2^-53. A predicate judges any loss that has ``value_and_grad(r_w, r_l)``, so
that a wrong one can be shown to fail it.

``THEOREMS`` binds, by id, what belongs together: ``docs/theorems/t1.md`` proves T1, the predicates named here embody
it, the property tests ``test_t1_...`` hold them and reject mutants, and the groups or flags of the test vectors that
cite T1 carry it to other implementations. ``tests/test_registry.py`` fails when a partner is missing.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from refrm.theorems.models import (
    W_1_E,
    bounded_mean,
    descent,
    drift,
    free_shifts,
    linear_hessian,
    resting_force,
    signless_laplacian,
    step_bound,
    universal_bound,
)
from refrm.theorems.scores import (
    PAIRWISE,
    batch_expectation,
    centred,
    centring,
    decoupling,
    free_dynamics,
    function_of_sum,
    gradients,
    jensen,
    pair_form,
    printed_sign,
    responses_form,
    shift_cost,
    shift_invariance,
    smoothed_minimum,
    uniqueness,
)
from refrm.theorems.verdict import Add, Centring, ScoreLoss, U, Verdict

__all__ = [
    "PAIRWISE",
    "THEOREMS",
    "W_1_E",
    "Add",
    "Centring",
    "ScoreLoss",
    "Theorem",
    "U",
    "Verdict",
    "batch_expectation",
    "bounded_mean",
    "centred",
    "centring",
    "decoupling",
    "descent",
    "drift",
    "free_dynamics",
    "free_shifts",
    "function_of_sum",
    "gradients",
    "jensen",
    "linear_hessian",
    "pair_form",
    "printed_sign",
    "responses_form",
    "resting_force",
    "shift_cost",
    "shift_invariance",
    "signless_laplacian",
    "smoothed_minimum",
    "step_bound",
    "uniqueness",
    "universal_bound",
]


class Theorem(NamedTuple):
    """One entry of the registry.

    ``id`` is "T1" to "T14", ``says`` the statement in words that reports use, too, ``predicates`` the functions of
    this package that embody it, and ``no_vectors`` why no test vector can cite it, empty where some do.
    """

    id: str
    title: str
    says: str
    predicates: tuple[Callable[..., Verdict], ...]
    no_vectors: str = ""


_ENTRIES = (
    Theorem(
        "T1",
        "Shift invariance",
        "Adding one number to both scores of a pair changes no ranking, no probability and no pairwise loss, with its"
        " gradient and curvature.",
        (shift_invariance,),
    ),
    Theorem(
        "T2",
        "Gradients",
        "The loss pulls each pair apart with force sigma(m - d), the term pulls both scores by 2 lambda s.",
        (gradients,),
    ),
    Theorem(
        "T3",
        "Decoupling",
        "The term puts no force on the margin d, the loss none on the sum s.",
        (decoupling,),
    ),
    Theorem(
        "T4",
        "Uniqueness of the term",
        "c (r_w + r_l)^2 is the one symmetric quadratic form that costs an antisymmetric pair (a, -a) nothing.",
        (uniqueness, function_of_sum, pair_form, responses_form),
    ),
    Theorem(
        "T5",
        "Free scores",
        "Free scores keep their sums under the loss, lose them exponentially under the term; margins grow like log t.",
        (free_dynamics,),
        "The trajectory follows from gradients that the vectors of T2 fix; no vector has scores as parameters.",
    ),
    Theorem(
        "T6",
        "Why scores drift",
        "In a model, learning the margin moves features that both responses share, and so the mean score.",
        (drift,),
    ),
    Theorem(
        "T7",
        "Bounded mean, along the way",
        "Wherever the objective is at most J0, such as its value at the start, mean s^2 <= J0/lambda; gradient descent"
        " with steps up to 1/beta stays there.",
        (bounded_mean, descent),
    ),
    Theorem(
        "T8",
        "Bounded mean, at rest",
        "At rest mean s^2 <= W(1/e)/(2 lambda) = 0.139.../lambda (without margins and label smoothing), whatever the"
        " data and the model under a linear head.",
        (universal_bound,),
    ),
    Theorem(
        "T9",
        "Convexity, uniqueness, existence",
        "The term bounds no margin: separable pairs can lack a minimiser, whatever lambda. Without it, scores of items"
        " have a free shift for each connected set of comparisons, such as a prompt's.",
        (linear_hessian, free_shifts, signless_laplacian),
        "It is about ranks and about whether a minimiser exists; a vector holds values and gradients at given points.",
    ),
    Theorem(
        "T10",
        "The printed sign",
        "With a minus sign before the term the loss is unbounded below and scores inflate exponentially.",
        (printed_sign,),
    ),
    Theorem(
        "T11",
        "Centring afterwards",
        "Subtracting the mean score afterwards changes no probability; it removes the mean of s, not its spread.",
        (centring,),
        "It is about scores after the training, and a vector judges losses and models.",
    ),
    Theorem(
        "T12",
        "Batch-wise sum-to-zero",
        "The penalty (mean s)^2 of a batch sees less than mean s^2, and how much depends on the batch size.",
        (jensen, batch_expectation),
    ),
    Theorem(
        "T13",
        "What a shift costs in floating point",
        "Shift invariance is exact over the reals; over floats a shift moves d by up to a rounding of the scores.",
        (shift_cost,),
    ),
    Theorem(
        "T14",
        "Smoothed labels bound the margin",
        "With label smoothing eps the loss of a pair is smallest at d - m = log((1 - eps)/eps).",
        (smoothed_minimum,),
    ),
)

THEOREMS: Mapping[str, Theorem] = MappingProxyType({entry.id: entry for entry in _ENTRIES})
"""The registry: id -> `Theorem`, in order."""
