"""The benchmarks of the paper: definitions, and official files as manifests."""
