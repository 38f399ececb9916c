"""Calibration data, observers and calibrators. Nothing yet: the first bundle is FP32."""
