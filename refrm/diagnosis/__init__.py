"""Diagnosis: from a run's scores, or its log, to the cause and the cure."""
