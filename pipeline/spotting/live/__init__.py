"""Live: signs as they are made before a camera, or in a file that is played.

In: frames, of which those that nobody took in time are dropped. Out: words as they are believed, sentences, what was dropped, latencies.
"""
