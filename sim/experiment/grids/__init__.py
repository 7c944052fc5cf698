"""Grids: the points that lists, ranges, named axes and cases of an experiment stand for."""
