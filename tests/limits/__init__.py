"""What tests of limits share."""
