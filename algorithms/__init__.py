"""What an agent does: strategies (the distributed part) and optimizers (the local part)."""
