"""The oracle: published test vectors, the catalogue of known mistakes, and the check of any implementation.

``check(f)`` judges a loss of any framework; ``load_vectors()`` are the published numbers; ``MISTAKES`` the catalogue.
"""

from refrm.oracle.catalogue import MISTAKES, Mistake
from refrm.oracle.judge import check
from refrm.oracle.report import Report
from refrm.oracle.vectors import load_vectors

__all__ = ["MISTAKES", "Mistake", "Report", "check", "load_vectors"]
