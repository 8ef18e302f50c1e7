"""Where images come from: listing, safe decoding, metadata, and the sample archive."""
