"""A run becomes what is shipped: a bundle whose answers are proven equal, and files for other runtimes."""
