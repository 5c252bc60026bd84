"""Labelled video: how a model does on lesions and over time, with and without the temporal filter."""
