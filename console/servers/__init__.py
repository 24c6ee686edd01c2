"""`servers`: is `openai_servers.yaml` fit to deploy, and does each server in it answer?"""
