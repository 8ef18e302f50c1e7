"""Training classifiers of one's own: data, augmentation, balance, fine-tuning, judging, experiments."""
