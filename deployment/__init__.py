"""`make build` and `make deploy`: the application as Lambda wants it, on any machine."""
