"""The demonstration's toy world, its videos and its model."""
