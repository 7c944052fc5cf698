"""The study of flatness and optimization in distributed learning."""
