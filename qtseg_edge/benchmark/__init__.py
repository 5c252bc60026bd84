"""Models on devices, timed in turns on one machine, with what its arithmetic and its memory would allow at best.

Every candidate lives in a process of its own (`worker`), because the threads of one engine disturb another in the same process. The parent
(`rounds`) lets one of them run at a time.
"""
