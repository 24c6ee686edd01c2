"""The response cache: equal requests get the answer that was given before.

Its one rule: an answer that is not proven whole, good and the same question's is neither kept nor given.
"""
