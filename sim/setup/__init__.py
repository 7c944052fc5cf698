"""What a run is made of: built, tried and checked before anything runs."""
