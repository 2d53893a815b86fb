"""DICOM and plain images in: patients, labels, phases, normalisation. Never imports TensorFlow."""
