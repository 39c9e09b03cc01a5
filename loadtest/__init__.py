"""Simulated camera fleets and the checks that go with them."""
