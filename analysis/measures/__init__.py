"""What can be measured at a point and of a network, a file a family."""
