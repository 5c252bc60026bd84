"""The decoder for deployment: the same mathematics in fewer operations. Training and checkpoints know only the plain one.

Every file holds one rewrite and says in its docstring why both sides are equal (docs/decisions/0021-rewritten-decoder.md).
"""
