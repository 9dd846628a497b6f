"""What people look at: pages of runs and their comparison, pictures, attention, and what commands print.

In: run folders and published features. Out: self-contained HTML and lines of text.
"""
