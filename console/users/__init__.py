"""`openai-proxy users`: people who have signed in with access tokens: who spends, and blocking one."""
