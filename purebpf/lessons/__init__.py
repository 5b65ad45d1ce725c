"""The ring buffer that you can see: what is in one at a moment, drawn, and scenarios that show one idea each.

No kernel is needed and none is touched: a scenario runs on a stage, and the simulated one is memory. What a state is made
from are three buffers, so the pages that the kernel maps give the same picture.
"""
