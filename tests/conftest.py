"""One Hypothesis profile for all tests: no deadline (kernels compile), no database, the same examples every time."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "refrm",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Uncompiled, the same properties are a hundred times slower: there they are for coverage.
    max_examples=15 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 100,
)
settings.load_profile("refrm")
