"""Contract suites: what every stage, model, corpus, store and format keeps to, as classes that pytest collects.

In: names, of files of this checkout or of a package with entry points. Out: a test for every rule and name. As in::

    class TestMyStages(StageContract):
        names = ("my_stage",)
"""

import pytest

pytest.register_assert_rewrite(*(f"pipeline.testing.{kind}" for kind in ("datasets", "formats", "models", "stages", "stores")))

from pipeline.testing.datasets import DatasetContract as DatasetContract
from pipeline.testing.formats import FormatContract as FormatContract
from pipeline.testing.models import ModelContract as ModelContract
from pipeline.testing.stages import StageContract as StageContract
from pipeline.testing.stores import StoreContract as StoreContract
