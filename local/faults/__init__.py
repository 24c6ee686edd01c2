"""Faults in front of the embedded AWS: a file says which calls come late, are refused, answered oddly or never."""
