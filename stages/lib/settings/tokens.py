"""An input set of the reviews: a line of the section `tokens`."""

from typing import Annotated

from pydantic import Field

from stages.lib.settings.base import Count, Flag, Section


class Tokens(Section):
    """The `words` most frequent words, the last `length` of a review, `val` of the training reviews held out."""

    # Ids below 4 are reserved, and tokens are stored as int16.
    words: Annotated[int, Field(ge=4, le=32767, description="a whole number from 4 to 32,767")]
    length: Count
    reverse: Flag
    val: Annotated[float, Field(gt=0, lt=1, description="a number above 0 and below 1")]
