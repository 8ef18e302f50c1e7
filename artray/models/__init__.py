"""Model cards, the one registry that builds models from them, weights by URI and hash, and trunks."""
