"""What an answer used and said, read from bytes that pass.

Its one rule: it is pure. It reads what passes and changes none of it, except for usage that only the proxy asked for.
"""
