"""What commands do that is more than a run: explain, retry, evaluate, forecast, demo."""
