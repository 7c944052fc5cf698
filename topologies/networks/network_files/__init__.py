"""Networks read from files, a format a file."""
