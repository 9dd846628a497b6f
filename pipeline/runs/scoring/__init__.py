"""What predictions are worth: figures with intervals that cover, and the table of what was said of every clip.

In: logits, labels and what counts together. Out: scores as plain values.
"""
