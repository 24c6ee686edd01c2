"""Gets one answer from servers that may fail: tokens, attempts, and the part of an answer that reaches the client.

Its one rule: whatever is tried again is tried before the client has its first byte.
"""
