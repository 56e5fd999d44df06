"""Public benchmarks: what they are, and how their files become manifests."""
