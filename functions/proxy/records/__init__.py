"""What is kept of a request after its client has been served: its event, its log line, its trace, its content.

Its one rule: nothing here can fail a request.
"""
