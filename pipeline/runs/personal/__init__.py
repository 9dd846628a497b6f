"""A trained run for one signer: its last layer, adapted to a few labelled clips of theirs.

In: a finished run and clips. Out: another run, which labels clips as any does and says what adapting was worth on clips left out.
"""
