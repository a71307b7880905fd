"""What `make gpu-check` runs: tests, sanitizers and timings on an NVIDIA GPU."""
