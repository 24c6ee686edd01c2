"""The response cache: equal requests get the answer that was given before.

Its one rule: an answer is kept and served only if it is proven to be whole and good, and to answer the very same
question.
"""
