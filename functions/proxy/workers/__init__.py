"""Several processes in one execution environment, as Lambda's managed instances have them: one for each request that
runs at a time. Loaded only there.
"""
