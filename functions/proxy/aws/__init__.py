"""Calls to AWS: signed requests over the HTTP client that the proxy has anyway, so that no SDK is loaded.

Its one rule: an answer that is not the documented one counts as no answer.
"""
