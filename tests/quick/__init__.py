"""What third parties work out anew for each test, worked out once. Tests see what they would see without it."""
