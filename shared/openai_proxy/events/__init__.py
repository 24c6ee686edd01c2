"""The events of the application: names, envelope, and what more than one function must know of them."""
