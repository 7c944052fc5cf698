"""Tasks of rated images and videos: what they share, and those of images."""
