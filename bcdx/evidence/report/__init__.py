"""A finished run's facts in; `report.html` and `model_card.md` out."""
