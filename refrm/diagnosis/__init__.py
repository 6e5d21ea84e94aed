"""Diagnosis: from a run's scores, or its log, to the cause and the cure.

``diagnose`` takes arrays of scores; ``diagnose_source`` pairs that are read in chunks; ``diagnose_log`` the aggregates
of a training log. Each gives a `Diagnosis`.
"""

from refrm.diagnosis.aggregates import diagnose_log
from refrm.diagnosis.arrays import diagnose
from refrm.diagnosis.data import Log, Settings
from refrm.diagnosis.engine import diagnose_source
from refrm.diagnosis.model import Diagnosis, Estimate, Finding

__all__ = [
    "Diagnosis",
    "Estimate",
    "Finding",
    "Log",
    "Settings",
    "diagnose",
    "diagnose_log",
    "diagnose_source",
]
