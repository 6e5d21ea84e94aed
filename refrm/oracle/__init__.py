"""The oracle: published test vectors, the catalogue of known mistakes, and the check of any implementation."""
