"""The exceptions and warnings of refrm; every message names the argument, its value or shape, and what was expected."""


class RefrmError(Exception):
    """Base class of every error that refrm raises on purpose."""


class InputError(RefrmError, ValueError):
    """An argument has the wrong type, shape, dtype or value."""


class FileError(RefrmError, ValueError):
    """A file cannot be read, or does not hold what was expected."""


class NotFittedError(RefrmError, ValueError, AttributeError):
    """An estimator was used before `fit`."""


class FitWarning(UserWarning):
    """A fit ended at something other than a minimiser; the message says what and why."""
