"""The verbs of the command line; everything heavy is imported inside them, so that --help answers at once."""
