"""The sample archive: shipped pictures, variations of them, broken files and odd ones."""
