"""The commands of the command line, a file a topic. They import what they need when they run, so that `--help` is instant.

In: words of the command line. Out: what the rooms below do, lines on both streams, and an exit status.
"""
