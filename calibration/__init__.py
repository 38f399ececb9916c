"""Calibration: sets, streaming observers, calibrators, their record, and calibrated confidence."""
