"""Super-resolution: pairs of images in low and high resolution."""
