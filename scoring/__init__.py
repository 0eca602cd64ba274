"""Predictions -> metrics, intervals, comparisons and results; nothing here knows about training."""
