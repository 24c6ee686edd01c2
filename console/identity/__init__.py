"""`openai-proxy identity`: checks identity.yaml."""
