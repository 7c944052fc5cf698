"""Videos of procedures, and what is told of them."""
