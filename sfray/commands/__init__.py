"""What commands do that is more than a run: job files, manifests, explain, retry, evaluate,
forecast, demo."""
