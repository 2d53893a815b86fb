"""Figures in numbers in; pictures as uint8 arrays out."""
