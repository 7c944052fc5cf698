"""Frozen networks that were trained for other purposes, and what they see in images and videos."""
