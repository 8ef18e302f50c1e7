"""Sets of labelled works, each read from its publisher's own layout."""
