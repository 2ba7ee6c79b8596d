"""A line of the section `tokens`: an input set of the reviews."""

from typing import Annotated

from pydantic import Field

from stages.lib.settings.base import Count, Flag, Section


class Tokens(Section):
    """Vocabulary size, tokens per review, direction, and the fraction of the training reviews for validation."""

    # Ids below 4 are reserved, and token ids are stored as int16.
    words: Annotated[int, Field(ge=4, le=32767, description="a whole number from 4 to 32,767")]
    length: Count
    reverse: Flag
    val: Annotated[float, Field(gt=0, lt=1, description="a number above 0 and below 1")]
