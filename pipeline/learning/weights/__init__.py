"""What is done to the weights of a module under way beside its steps: averaged, perturbed, kept for a training that is killed.

In: a module that trains. Out: the same module with other weights for a while, or for good.
"""
