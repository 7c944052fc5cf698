"""Advice which graph to train on, given a network: time per round, and rounds that are needed."""
