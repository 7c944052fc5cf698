"""Commands that use the trained models of finished runs."""
