"""What the proxy answers itself: its own endpoints, pre-flights, errors and the headers of every answer."""
