"""`openai-proxy guards`: checks guards.yaml, tries it on the past, shows what has acted, and undoes it."""
