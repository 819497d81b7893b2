"""What can be wrong with a training: one file a disease, each with `look(evidence) -> Diagnosis | None`."""
