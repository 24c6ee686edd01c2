"""Limits and budgets of client keys.

Its one rule: whatever a request may have taken is given back.
"""
