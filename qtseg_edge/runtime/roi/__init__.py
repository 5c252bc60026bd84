"""The part of a frame that the network is shown."""
