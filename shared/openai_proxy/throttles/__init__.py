"""Who was throttled, by which limit, and what helps."""
