"""What travels between workers: rows to neighbours, and sums over agents."""
