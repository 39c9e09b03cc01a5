"""What is planned and simulated, compared with a real run on this machine."""
