"""The trainers' one base error."""


class TrainerError(ValueError):
    """Something the user can put right: the message says what is wrong and what to do."""
