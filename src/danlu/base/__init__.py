"""What every room may use: errors, talk, registries, settings, files, runs, the machine. Standard library at import."""
