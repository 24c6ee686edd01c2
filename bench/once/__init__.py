"""Whether each event counts once in the ledger, whatever becomes of the consumers: tried with processes."""
