"""Several processes in one execution environment of Lambda's managed instances: one for each request that runs at the
same time. Loaded only there.
"""
