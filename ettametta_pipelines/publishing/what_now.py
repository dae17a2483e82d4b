"""What a person does about a post that is not on the platform, by its state and by why it is in it.

The same words on the asset's page, on the gateway's and in `ettametta trace`. `{n}` is the next intent's number.
"""

from collections.abc import Mapping

from ettametta_pipelines.publishing.ledger import State

BY_STATE: Mapping[str, str] = {
    State.RECONCILING: "It may be posted: the answer to the last bytes was lost. It is looked for on the channel by "
    "itself, and handed to a person after a day. Post nothing by hand meanwhile.",
    State.NEEDS_REVIEW: "Look at the channel, private posts and drafts included. If the post is there, run this again "
    "with `live_remote_id` set to its id. If it is not, run it with `intent_no: {n}`. The gateway's page of the post "
    "has a button for either.",
    State.FAILED_DEFINITE: "The platform refused it and nothing was posted. Correct the cause, then run this with "
    "`intent_no: {n}`.",
    State.INCIDENT: "The channel has the video more than once. Delete all but one there, then run this again with "
    "`live_remote_id` set to the id of the one that stays; the gateway's page of the post asks for it too.",
}

_TAKEN_AND_NOT_SHOWN = (
    "YouTube took the video and does not show it. Open it in YouTube Studio under Content, where the reason stands, "
    "and delete it there. Then correct the cause and run this with `intent_no: {n}`."
)
# Where the state alone would send a person the wrong way.
BY_CODE: Mapping[str, str] = {
    "no_last_word": "The platform has not said for two days what became of the post. Look for it on the channel. If it "
    "plays, run this again with `live_remote_id` set to its id. If it hangs or is missing, delete what is left of it "
    "there, then run this with `intent_no: {n}`. The gateway's page of the post has a button for either.",
    "channel_gone": "The channel was disconnected while the post was on its way. Look at that channel: if the post is "
    "there, say so on the gateway's page of the post. If it is not, connect the channel again, then say that it is "
    "not live.",
    "channel_replaced": "Nothing was posted here and nothing is left to do: the account posts on another channel now.",
    "declared_not_live": "Nothing is left to do here: a person found that it is not live and ordered it as a post of "
    "its own, with a higher `intent_no`.",
    "youtube_rejected": _TAKEN_AND_NOT_SHOWN,
    "youtube_failed": _TAKEN_AND_NOT_SHOWN,
    "youtube_deleted": "Somebody deleted the video on the channel while YouTube processed it. Leave it at that, or run "
    "this with `intent_no: {n}` to post it again.",
}


def what_now(state: str, error_code: str | None, intent_no: int) -> str | None:
    """What to do, in a sentence or more; None where the post is on the platform or on its way."""
    by_state = BY_STATE.get(state)
    text = by_state and BY_CODE.get(error_code or "", by_state)
    return text.format(n=intent_no + 1) if text else None
