"""The livegate command and what it takes to run the product."""
