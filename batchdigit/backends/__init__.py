"""Batches to predictions."""
