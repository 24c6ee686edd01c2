"""The ledger: what an inference cost, as an entry, its share of the rollups, and a row of the lake.

Its one rule: the function that records and the commands that price again share every shape here.
"""
