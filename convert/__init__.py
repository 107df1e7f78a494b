"""A trained checkpoint becomes a model file: read it, quantize it, and prove that it still says the same."""
