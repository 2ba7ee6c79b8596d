"""The section `reviews` without the source of its file."""

from stages.lib.settings.base import Count, Section, Sha256


class Reviews(Section):
    sha256: Sha256  # the file holds pickles, which can run code when loaded
    vocabulary: Count  # the highest word rank in the file
