"""What a model's answer rests on: the places of an image, the tokens of a text."""
