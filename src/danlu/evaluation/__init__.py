"""What a model is worth on examples it has not seen."""
