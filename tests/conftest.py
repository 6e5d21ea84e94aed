"""One Hypothesis profile for all tests: no deadline (kernels compile), no database, the same examples every time."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "refrm", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("refrm")
