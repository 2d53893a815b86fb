"""Scores of new slices in; verdicts, `diagnosis.json` with its schema, and pictures out."""
