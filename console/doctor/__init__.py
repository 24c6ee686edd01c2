"""`doctor`: what of a deployed stack needs somebody's hand, and the command for it."""
