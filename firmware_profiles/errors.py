"""What can be wrong with a profile: always a file, a key in it and what would be right."""


class ProfileError(Exception):
    """A firmware profile that cannot be used; nothing is loaded until it is put right.

    file: the profile's file name. key: the dotted path of the faulty key, empty for the whole file.
    remedy: what would be right, in a sentence for the person who edits the file.
    """

    def __init__(self, file: str, key: str, remedy: str) -> None:
        super().__init__(f"{file}: {key}: {remedy}" if key else f"{file}: {remedy}")
        self.file = file
        self.key = key
        self.remedy = remedy
