"""What a stage is, which of its rows are finished, what is published, and how features are opened.

In: a manifest, stages and their settings; finished shards. Out: identities, row indexes, `published.json`, and features by clip id.
"""

from pipeline.cache.features import Features as Features
from pipeline.cache.publishing import open_stage as open_stage
