"""A value of the servers file that cannot be used."""


class OptionError(ValueError):
    """A value that cannot be used: its `key`, the `problem`, the `remedy`."""

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.key = key
        self.problem = problem
        self.remedy = remedy
