"""The errors that the command line shows as a line and exit code 2, or 1."""


class SweepError(Exception):
    """Something the user can put right: the message says what is wrong and what to do."""


class NothingTrainedError(SweepError):
    """A run whose trials all failed before they had an epoch: exit code 1."""
