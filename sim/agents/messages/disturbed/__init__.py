"""Messages that do not arrive as they were sent, or when."""
