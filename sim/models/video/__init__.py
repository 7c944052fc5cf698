"""Networks that rate videos."""
