"""What a user or a clip can do wrong, each said in one line."""


class UserError(Exception):
    """One line: what is wrong, the value, what would be right, the command to run. Exit status 2."""


class NewerFormat(UserError):
    """A file that a newer signcache wrote: whole, and not to be read by this one."""

    def __init__(self, path: object, found: object, known: int) -> None:
        super().__init__(path, found, known)  # as given: pickle makes it anew from these

    def __str__(self) -> str:
        path, found, known = self.args
        return f"{path} has format {found}, this signcache reads up to {known}: install a newer signcache"


class Diverged(UserError):
    """A training whose loss is no number any more."""


class ClipError(Exception):
    """Why one clip gives no features. It is recorded with the clip and never stops the others."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, at which a run ends as at Ctrl-C, with the exit status that a shell expects of it."""

    status = 143


def did_you_mean(word: str, known: list[str]) -> str:
    """`"; did you mean 'resnet50'?"`, or a full stop where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
