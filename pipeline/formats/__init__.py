"""What other programs wrote and read, a format a file.

In: their files and folders. Out: published features by `import_rows`; and from published features, such files by `export`.
"""

from pipeline.formats._clips import Format as Format
from pipeline.formats._clips import Incoming as Incoming
from pipeline.formats._clips import Outgoing as Outgoing
from pipeline.formats._exporting import export as export
from pipeline.formats._exporting import writable as writable
from pipeline.formats._importing import import_rows as import_rows
from pipeline.formats._likeness import Asked as Asked
from pipeline.formats._reading import clips_of as clips_of
from pipeline.formats._reading import readable as readable
