"""Turns predictions into rows, in files that appear whole."""
