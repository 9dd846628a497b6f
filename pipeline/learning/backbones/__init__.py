"""Networks of stages that learn: which blocks of one do, which items of a clip it sees, varied how, in how much memory.

In: items as a stage prepares them, of a training's clips. Out: rows as that stage makes them, with gradients.
"""
