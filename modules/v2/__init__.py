"""A scoring server that speaks the Open Inference Protocol (V2)."""
