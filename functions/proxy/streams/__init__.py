"""Streams that outlive their connection: their events are numbered and stored while they pass, and clients that come
back can read them.

Its one rule: a stream that is not resumable is not touched by this package, and a failure here loses the recording,
never the answer.
"""
