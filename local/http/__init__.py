"""HTTP/1.1 for the servers of the local stack."""
