"""Publishes events that the bus did not take when they happened."""
