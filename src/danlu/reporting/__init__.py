"""Pages a person reads: facts of runs and data as one self-contained HTML file each."""
