"""Limits and budgets of client keys.

Its one rule: everything that a request may have taken is given back.
"""
