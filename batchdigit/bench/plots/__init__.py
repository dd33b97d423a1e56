"""A measurement in pictures: PNG, SVG, or a page of HTML."""
