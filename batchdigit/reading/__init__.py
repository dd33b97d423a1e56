"""From sources to batches, in processes of their own."""
