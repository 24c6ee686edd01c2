"""What the console tells a person who asked for something that cannot be done."""


class ConsoleError(Exception):
    """The command failed. The message says what is wrong and what to do about it."""
