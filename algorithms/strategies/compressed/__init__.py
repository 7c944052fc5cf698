"""Communication-efficient strategies: compressed rows, low rank, coordinates in subspaces."""
