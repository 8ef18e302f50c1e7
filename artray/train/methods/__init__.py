"""Training of retrieval methods: pictures in, labelled or not, a model card out."""
