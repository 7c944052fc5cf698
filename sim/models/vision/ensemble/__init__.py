"""Networks that rate by features of several extractors."""
