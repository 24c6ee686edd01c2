"""What a client asks for: the event, the body, who is calling, and which servers may answer.

Its one rule: every value from a client is bounded where it is read.
"""
