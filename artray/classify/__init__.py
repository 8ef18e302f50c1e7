"""Type, genre and embedding of an image: a trunk, and heads on its embedding."""
