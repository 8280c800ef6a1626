# Benchmarks: none yet.
