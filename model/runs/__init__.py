"""Long runs: processes, progress, and results on disk that survive an interruption."""
