"""What an experiment would do, told before anything starts: its runs, and who would host what."""
