"""A public catalogue and rules in, files and their provenance out. Never imports pydicom or TensorFlow."""
