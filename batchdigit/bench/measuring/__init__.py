"""Measuring: what is tried, in which turns, by which processes."""
