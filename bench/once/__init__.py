"""Whether each event counts once in the ledger, and limits let through what they say: tried with processes."""
