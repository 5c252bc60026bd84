"""Hand-offs of a deployed graph to other servers: a Triton model repository, a DeepStream configuration. Nothing is served here."""
