"""The exception that a user sees as a message instead of a traceback."""


class UserError(Exception):
    """A mistake the user can correct. The message says where it is, what was expected and what to do."""
