"""Long sequences: counterparts of the tasks of the Long Range Arena, and its own files."""
