"""Predictions to rows, in files that appear whole."""
