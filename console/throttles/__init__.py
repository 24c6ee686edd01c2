"""`openai-proxy throttles`: who was throttled, by which limit."""
