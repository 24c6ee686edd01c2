"""The error of a command that cannot do what a person asked for."""


class ConsoleError(Exception):
    """The command failed. The message says what is wrong and what to do about it."""
