"""Functions with a backward of their own, and CUDA's graphs."""
