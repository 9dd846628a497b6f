"""How a recipe is trained: the nouns, the one loop, losses, schedules, augmentation, devices.

In: the tables of a training. Out: a predictor, and the figures of every epoch.
"""
