"""Services: what happens around a model call."""
