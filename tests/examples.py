"""How many examples a test of a law tries: few in every run, and many when somebody asks for them."""

from hypothesis import settings


def examples(usual: int) -> int:
    """`usual`, or as many as the profile of Hypothesis says where that is more: `HYPOTHESIS_PROFILE=thorough`."""
    return max(usual, settings().max_examples)
