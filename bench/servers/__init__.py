"""Processes that a measurement starts: upstream servers, pass-throughs, and sandboxes that do less than the proxy."""
