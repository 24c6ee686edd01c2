"""`costs export`: the ledger as a file, for tools that know nothing of this project."""
