"""Many heads trained together, as one batched computation."""
