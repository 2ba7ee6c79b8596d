"""The one exception that a user sees as a message instead of a traceback."""


class UserError(Exception):
    """Something the user can mend: the message says where it is and what to do."""
