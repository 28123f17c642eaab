"""What runs the examples, the studies and the benchmarks. Not part of the installed package."""
