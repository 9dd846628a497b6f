"""A cache that lies in a bucket: a machine works in a folder of its own, which holds what it needs of it and sends what it makes.

The bucket has the same files under the same names. A shard's files go there, then its marker, one PUT; rows come back shard by shard
when they are read, held against their checksums; of those the least recently read go where there are too many. Published is what
`published.json` says there, put only where it is still the one that was seen (If-Match; by a lease in a bucket that knows no such).
"""

from pipeline.cache.mirror.working_folder import Mirror as Mirror
from pipeline.cache.mirror.working_folder import folder_of as folder_of
from pipeline.cache.mirror.working_folder import of as of
