"""What follows from a measurement."""
