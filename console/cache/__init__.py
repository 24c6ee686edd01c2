"""`openai-proxy cache`: what the response cache holds and saves, and how its content is deleted."""
