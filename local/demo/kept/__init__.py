"""What the demo server keeps in memory: files, batches, uploads, vector stores, conversations, responses.

Its one rule: a bounded number of each is kept, and the oldest is forgotten first.
"""
