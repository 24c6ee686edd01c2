"""Faults in front of the embedded AWS: calls that come late, are refused, answered oddly or never, as a file says."""
