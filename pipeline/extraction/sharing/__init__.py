"""One extraction among others of the same stages, in other shells, jobs or hosts.

In: the plan of a pass, and what lies in the stages' folders. Out: the clips that this run is to extract, as jobs, until all are finished.
"""
