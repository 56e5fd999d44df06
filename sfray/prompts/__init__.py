"""Templates of prompts, and choices in answers."""
