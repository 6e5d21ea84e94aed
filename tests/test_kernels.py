"""The kernels against arbitrary precision: the loss and its gradient within 2 ulp, the curvature within 4."""

import mpmath
import numpy as np
import pytest

from refrm import kernels

MP = mpmath.mp.clone()
MP.prec = 2300
RNG = np.random.default_rng(0)
FREE = RNG.normal(size=200)
CASES = {
    "near 0": (FREE, RNG.normal(size=200), np.zeros(1)),
    "shifted": (500 + FREE, 500 + RNG.normal(size=200), np.zeros(1)),
    "cancelling": (100 * FREE * (1 + 1e-12 * RNG.normal(size=200)), 100 * FREE, 1e-9 * RNG.normal(size=200)),
    "tails": (np.linspace(-745, 745, 401), np.zeros(401), np.zeros(1)),
}


def ulps(found, truth):
    return float(abs(MP.mpf(float(found)) - truth) / MP.mpf(float(np.spacing(abs(float(truth))))))


@pytest.mark.parametrize("case", CASES)
def test_bradley_terry(case):
    r_w, r_l, margin = CASES[case]
    with np.errstate(all="ignore"):
        jet = kernels.bradley_terry(r_w, r_l, margin, 0.0)
    for i, (w, v, m) in enumerate(zip(r_w, r_l, np.broadcast_to(margin, r_w.shape), strict=True)):
        z = MP.mpf(float(w)) - MP.mpf(float(v)) - MP.mpf(float(m))
        e = MP.exp(-abs(z))
        assert ulps(jet.value[i], MP.log1p(MP.exp(-z))) <= 2
        assert ulps(jet.g_w[i], -1 / (1 + MP.exp(z))) <= 2
        assert ulps(jet.h_ww[i], e / (1 + e) ** 2) <= 4
