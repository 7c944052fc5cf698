"""Tasks that are read from files: images, tables, shards and data sets of the Hugging Face hub."""
