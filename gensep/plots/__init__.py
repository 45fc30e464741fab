"""Figures written as PNG files, drawn without a display."""
