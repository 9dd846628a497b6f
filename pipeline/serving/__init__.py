"""A server that labels uploads with a run or a package.

In: requests of whoever reaches it, who is not trusted. Out: labels, and how it is doing.
"""
