"""What more than one function of the proxy needs: events, usage, prices, client keys, the servers file."""
