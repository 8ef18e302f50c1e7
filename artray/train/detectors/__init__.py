"""Training of detectors: boxes in, a model card out."""
