"""Long runs: several processes, several sittings."""
