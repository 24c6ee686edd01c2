"""Streams that outlive their connection: numbered events, written down while they pass, and read by who comes back.

Its one rule: a stream that nobody asked to be resumable knows nothing of this, and what goes wrong here costs the
recording, never the answer.
"""
