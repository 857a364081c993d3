"""What can be wrong with a profile: always a file, a key in it and what would be right."""


class ProfileError(Exception):
    """A firmware profile that cannot be used; nothing is loaded until it is put right.

    file: the profile's file name. key: the dotted path of the faulty key, empty for the whole file.
    remedy: what is wrong and what would be right, in a sentence for the person who edits the file. All of it is one
    line.
    """

    def __init__(self, file: str, key: str, remedy: str) -> None:
        super().__init__(_one_line(f"{file}: {key}: {remedy}" if key else f"{file}: {remedy}"))
        self.file = file
        self.key = key
        self.remedy = remedy


def _one_line(text: str) -> str:
    # A quoted key may hold a line break, and it must not look like two mistakes.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
