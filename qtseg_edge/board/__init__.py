"""How warm the machine is, what it draws, and whether it is throttled: a Jetson's board, or a PC's CPU and NVIDIA GPU."""
