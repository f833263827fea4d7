"""Quantisation arithmetic and calibration."""
