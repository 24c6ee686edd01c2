"""`guards.yaml`: what is done by itself about a client key, or a user, that behaves as it should not.

    events ─▶ Seen ─▶ Engine.judge ─▶ Action ─▶ an overlay of the key, which the authorizer reads, and GuardActed

Its one rule: which acts there are follows from the set of events alone. The order they come in, and copies of them,
change nothing; so what a replay of the past says is what the consumer does.
"""
