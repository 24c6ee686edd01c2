"""Who may call: the authorizer function's word for a key, and two other access modes that an owner can switch on.

Its one rule: without a clear yes the answer is no.
"""
