"""Language models, and the text that they learn."""
