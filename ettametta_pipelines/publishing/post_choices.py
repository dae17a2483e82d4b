"""What an operator may choose for a post in a launchpad: the fields that deciding about it and posting it share."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.orders import Wishes


class PostChoices(dg.Config):
    """Everything has a safe default: only the owner sees what is posted."""

    title: str = Field(default="", description="Title or caption; empty takes the video's title.")
    description: str = Field(default="", description="Text below the video; the credit is added by itself.")
    tags: list[str] = Field(
        default=[],
        description="Tags on YouTube, hashtags on TikTok, without the #; the channel's own are added.",
    )
    privacy: str = Field(
        default="",
        description="YouTube: private, unlisted, public. TikTok: SELF_ONLY, MUTUAL_FOLLOW_FRIENDS, "
        "FOLLOWER_OF_CREATOR, PUBLIC_TO_EVERYONE, as far as offered. Empty takes the channel's policy.",
    )
    license: str = Field(default="", description="YouTube: youtube (the default) or creativeCommon.")
    made_for_kids: bool = Field(default=False, description="YouTube: declare the video made for kids.")
    paid_promotion: bool = Field(
        default=False,
        description="Declare a paid promotion; declared anyway where the upload names a sponsor.",
    )
    synthetic_media: bool = Field(
        default=False, description="Declare synthetic media; declared anyway where an input is generated."
    )
    own_brand: bool = Field(default=False, description="TikTok: declare that it promotes your own business.")
    allow_comments: bool = Field(default=False, description="TikTok: let people comment.")
    allow_remixes: bool = Field(default=False, description="TikTok: let people make duets and stitches.")
    intent_no: int = Field(
        default=1, ge=1, description="Raise by one only to post the same video again on purpose."
    )

    def wishes(self) -> "Wishes":
        """The choices as domain code takes them, without what a subclass asks beside."""
        from ettametta_pipelines.publishing.orders import Wishes

        return Wishes(**self.model_dump(include=set(Wishes.__dataclass_fields__)))
