"""What a job would do: requests, identities, windows, what is done. No Ray, no torch."""
