"""What is wrong with a training, why it is thought so, and the command that cures it."""
