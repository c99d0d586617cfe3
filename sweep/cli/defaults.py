"""What the sweep.toml of the working folder gives a command that only reads studies."""


def study_setting(key: str) -> str:
    """A value of [study], the shipped one where the file has none.

    Raises:
        SweepError: the file cannot be read, or the value is no text.
    """
    from sweep.config.load import study_default

    def cuda() -> bool:
        from sweep.config.devices import cuda_found  # loads torch, which is rarely needed here

        return cuda_found()

    value: str = study_default(key, cuda)
    return value
