"""Values that satisfy a JSON Schema: the arguments of tools, and structured answers. Its one rule: none is wrong."""
