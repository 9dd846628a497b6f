"""What decode processes do: clips are hashed, decoded once, and prepared by every stage that wants them.

In: jobs. Out: items in spool files, or the reasons why there are none.
"""
