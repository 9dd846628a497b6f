"""Files by name in a folder or in a bucket that many machines reach: whole objects, never parts, and a list of names.

In: a folder or a URL as `s3://bucket/prefix`, credentials from the environment. Out: bytes, files, and UserError in one line.
"""

from pipeline.objects.opening import opened as opened
from pipeline.objects.store import ObjectStore as ObjectStore
