"""What a request cost: list prices, the owner's own prices, and what they make of its usage."""
