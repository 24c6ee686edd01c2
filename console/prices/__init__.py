"""`openai-proxy prices`: the owner's price file and the list prices."""
