"""What reads a clip: PyAV and decord, facts, windows and scenes."""
