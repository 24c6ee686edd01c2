"""What a client asks for: its event and its body, and which servers may answer.

Its one rule: every value from a client is bounded where it is read.
"""
