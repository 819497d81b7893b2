"""A trained model answering: the same preprocessing as in training, then an engine."""
