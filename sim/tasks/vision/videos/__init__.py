"""Video quality: clips of photos at known distortions, and videos that people have rated."""
