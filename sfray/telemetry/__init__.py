"""What is told while a run goes on: logs, progress, metrics, bottlenecks."""
