"""`openai-proxy costs`: what was spent, compared with what providers say, and priced again."""
