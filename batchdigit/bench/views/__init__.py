"""A measurement as text, plots and pages."""
