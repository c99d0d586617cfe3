"""The one error that the command line shows as a line and exit code 2."""


class SweepError(Exception):
    """Something the user can put right: the message says what is wrong and what to do."""
