"""What is known of the review file: the section `reviews` but for where it comes from."""

from stages.lib.settings.base import Count, Section, Sha256


class Reviews(Section):
    sha256: Sha256  # the file holds pickles, which can run code when read
    vocabulary: Count  # highest word rank in the file
