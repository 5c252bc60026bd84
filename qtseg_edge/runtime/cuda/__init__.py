"""The few things of CUDA that running an engine needs, through whichever Python package is installed. Start at `drivers.open_cuda`."""
