"""What is said of data that cannot be read, or not all of it."""


class DataError(ValueError):
    """A data set that cannot be read, with its path and the reason."""


class DataWarning(UserWarning):
    """Files that lie among the images and are left out, by kind and count; or pictures that are enlarged."""
