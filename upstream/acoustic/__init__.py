"""Classic acoustic front-ends: one module each, the module's name is the upstream's name."""
