"""The lake: SQL over it, the queries that are saved beside it, and the corrections that it gets."""
