"""What goes on from frame to frame: regions followed as tracks, single-frame flashes held back, lesions counted as events."""
