"""Who may call: the authorizer function judges keys, and an owner can switch on two other access modes.

Its one rule: nobody is let in without a clear yes.
"""
