"""What is kept in several items because one would be written too often, read as a whole.

Its one rule: whoever reads gets what one item would have said.
"""
