"""Scores and labels in, evidence with intervals out. Never imports pydicom or TensorFlow."""
