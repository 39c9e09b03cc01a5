"""From stream entry to committed decision."""
