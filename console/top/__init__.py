"""`openai-proxy top`: what the proxy is doing, live."""
