"""`openai-proxy costs report`: a page about a period, as one file that asks no network for anything."""
