"""The commands a person runs against a deployed or local application: `openai-proxy`."""
