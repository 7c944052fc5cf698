"""What trained models of finished runs are used for."""
