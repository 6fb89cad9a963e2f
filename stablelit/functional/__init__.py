"""Pure functions on numbers and tensors that a callback or two families need; they know no framework but torch."""
