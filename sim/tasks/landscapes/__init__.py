"""Loss surfaces with a closed form."""
