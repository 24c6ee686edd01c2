"""`openai-proxy keys`: client keys are made, changed, rotated and revoked."""
