"""Networks for images and videos."""
