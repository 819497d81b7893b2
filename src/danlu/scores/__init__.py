"""Arrays to numbers: metrics in numpy, nothing read and nothing written."""
