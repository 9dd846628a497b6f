"""Trained models as files of other programs: ONNX, TorchScript.

In: a finished run or a package. Out: one file with classes and settings inside, compared with the run before anybody sees it.
"""
