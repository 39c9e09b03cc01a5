"""Evaluation: error rates, calibration and reports."""
