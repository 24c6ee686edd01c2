"""`guards.yaml`: rules for client keys and users, and what is done automatically when one is broken.

    events ─▶ Seen ─▶ Engine.judge ─▶ Action ─▶ an overlay of the key, which the authorizer reads, and GuardActed

Its one rule: the acts follow from the set of events alone. Their order, and copies of them, change nothing. So a replay
of the past gives the acts that the consumer makes.
"""
