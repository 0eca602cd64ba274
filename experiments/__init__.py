"""Many trainings that are one run: opened, cross-validated, swept, evaluated and made again."""
