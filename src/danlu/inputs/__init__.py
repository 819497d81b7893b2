"""Bytes or text to arrays: the only preprocessing there is, used by training, evaluation and prediction alike."""
