"""`openai-proxy teams`: what the keys and users of a team may take together."""
