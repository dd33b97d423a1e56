"""What earlier runs did, and which of it still holds."""
