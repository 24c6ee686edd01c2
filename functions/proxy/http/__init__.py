"""HTTP/1.1 as a client over blocking sockets, and calls of servers with it.

Its one rule: an answer whose end is in doubt is never taken as whole, and its connection is not used again.
"""
