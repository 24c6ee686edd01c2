"""The proxy function: streams one OpenAI API request to an upstream server and its answer back."""
