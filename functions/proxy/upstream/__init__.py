"""Getting one answer out of servers that fail: tokens, attempts, and what of an answer reaches the client.

Its one rule: everything that can be tried again is tried before the client has its first byte.
"""
