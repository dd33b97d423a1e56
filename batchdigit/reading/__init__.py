"""Sources to batches, in worker processes."""
