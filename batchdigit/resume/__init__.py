"""What earlier runs did, and what of it still holds."""
