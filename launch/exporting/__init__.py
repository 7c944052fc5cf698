"""What runs have measured, in the forms of other tools: frames of pandas, tables, films of graphs, loggers."""
