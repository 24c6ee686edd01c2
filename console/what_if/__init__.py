"""`costs what-if`: the past at the prices of another model, or of another price book."""
