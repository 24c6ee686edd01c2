"""What of Lambda the embedded AWS lacks: a function URL that streams, and sandboxes that speak the Runtime API."""
