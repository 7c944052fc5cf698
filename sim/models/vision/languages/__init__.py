"""Networks that map videos and texts into common spaces."""
