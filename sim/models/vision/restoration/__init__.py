"""Networks that enlarge images; before they are trained, they interpolate bicubically."""
