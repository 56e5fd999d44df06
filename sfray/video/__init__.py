"""From a file's packets to frames: containers, timelines, pixels."""
