"""How many examples a test of a law tries: few in every run, and many when somebody asks for them."""

from hypothesis import settings

OF_EVERY_RUN = 25
"""Where a test names no number of its own."""


def examples(usual: int) -> int:
    """`usual`, or as many as the profile of Hypothesis says where that is meant: `HYPOTHESIS_PROFILE=thorough`."""
    wanted = settings().max_examples
    return usual if wanted <= OF_EVERY_RUN else max(usual, wanted)
