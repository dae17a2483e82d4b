"""Posting on TikTok: direct post of a file in chunks, driven by the publication ledger.

The publish id is the oracle: asked by it, TikTok says how many bytes it has and what became of the post. An upload
that never gets its last byte posts nothing, so another may be opened until then, and never after. TikTok names a
post's own id only once it is public; until then the publication has none. Called by the asset `tiktok_publications`;
HTTP is in `vendors/tiktok.py`.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.publishing.delivery import (
    Delivery,
    Order,
    Outcome,
    ProbeRefused,
    Stalls,
    Workshop,
    deliver,
)
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.publishing.posts import Post, tiktok_caption
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.vendors.tiktok import (
    MIN_CHUNK,
    ChunkOutOfOrder,
    ChunkPlan,
    ChunkProgress,
    CreatorInfo,
    PublishStatus,
    TikTokApp,
    TikTokCreator,
    TikTokPost,
    UploadUrlGone,
    plan_chunks,
)

# The smallest that TikTok takes: a chunk the line cuts off is sent again from its start.
DEFAULT_CHUNK = MIN_CHUNK
PUBLISH_ID = "publish_id"
UPLOAD_URL = "upload_url"
CHUNK_SIZE = "chunk_size"
# TikTok's upload URLs live an hour; one that would end while bytes flow is not begun with.
UPLOAD_URL_LIFE = timedelta(minutes=50)
# TikTok waits for bytes in this state only.
UPLOADING = "PROCESSING_UPLOAD"


def publish(workshop: Workshop, app: TikTokApp, order: Order, *, chunk_size: int = DEFAULT_CHUNK) -> Outcome:
    """Post one rendition on the account's TikTok, or find what became of it; safe to repeat at any time.

    `chunk_size` in bytes, 5 MiB to 64 MB. Raises NeedsPersonError `privacy_not_offered`, and what
    `delivery.deliver` raises.
    """
    return deliver(
        workshop, order, partial(TikTokDelivery, app=app, chunk_size=chunk_size), page_of=page_of_post
    )


def page_of_post(publication: Publication, post_id: str) -> str | None:
    """Page of a post below the creator's page, which the publication has from the opening of its upload on."""
    return f"{publication.url}/video/{post_id}" if publication.url else None


def post_for(post: Post, creator: CreatorInfo) -> TikTokPost:
    """The post as TikTok takes it. Its rules want comments, duets and stitches off unless a person switched them on,
    and leave no choice where the creator has them off altogether.
    """
    return TikTokPost(
        title=tiktok_caption(post),
        privacy_level=post.privacy,
        disable_comment=creator.comment_disabled or not post.comments,
        disable_duet=creator.duet_disabled or not post.remixes,
        disable_stitch=creator.stitch_disabled or not post.remixes,
        brand_content=post.paid,
        brand_organic=post.own_brand,
        is_ai_generated=post.synthetic,
    )


class TikTokDelivery(Delivery[TikTokCreator]):
    """One worker's upload for one creator."""

    unauthorized_codes = frozenset({"tiktok_access_token_invalid", "tiktok_access_token_expired"})

    def __init__(self, *context: object, app: TikTokApp, chunk_size: int) -> None:
        super().__init__(*context, app=app)  # type: ignore[arg-type]
        self._app = app
        self._chunk_size = chunk_size

    @property
    def steps(self) -> Mapping[State, Callable[[Publication], Publication | None]]:
        return {
            State.PLANNED: self._open_upload,
            State.SESSION_OPEN: self._send_all_but_the_last_chunk,
            State.FINALIZING: self._finish,
            State.PROCESSING: self._poll,
            State.RECONCILING: self._look_for_it,
        }

    def make_client(self, token: str) -> TikTokCreator:
        return self._app.creator(token)

    def _open_upload(self, publication: Publication) -> Publication:
        self.media.check()
        creator = self.call(lambda client: client.creator_info())
        self._check_choices(creator)
        self.count_session()
        post = post_for(self.order.post, creator)
        plan = plan_chunks(self.media.size, chunk_size=self._chunk_size)
        try:
            target = self.call(
                lambda client: client.init_upload(post, plan.size, plan.chunk_size, plan.count)
            )
        except PermanentError as error:
            return self.refuse(error)
        return self.ledger.advance(
            self.claim,
            State.SESSION_OPEN,
            reason="upload_opened",
            detail={"size_bytes": plan.size, "chunk_size": plan.chunk_size, "chunks": plan.count},
            handle={
                PUBLISH_ID: target.publish_id,
                UPLOAD_URL: target.upload_url,
                CHUNK_SIZE: str(plan.chunk_size),
            },
            received_bytes=0,
            # Until TikTok names the post, its owner finds it on the creator's page.
            url=self._app.profile_url(creator.username),
        )

    def _check_choices(self, creator: CreatorInfo) -> None:
        """What only TikTok knows, right before the post: who may see it and how long it may be."""
        privacy = self.order.post.privacy
        if privacy not in creator.privacy_options:
            raise NeedsPersonError(
                f"TikTok does not offer {privacy} to {creator.username} now.",
                code="privacy_not_offered",
                remedy=f"Set `privacy` to one of {', '.join(creator.privacy_options)}.",
            )
        duration = self.order.rendition.duration_s
        if duration > creator.max_duration_s:
            raise PermanentError(
                f"{self.media.key} lasts {duration:.0f} s; {creator.username} may post {creator.max_duration_s} s.",
                code="video_too_long",
                remedy="Render a shorter cut.",
            )

    def _send_all_but_the_last_chunk(self, publication: Publication) -> Publication:
        handle = self.handle_of(publication)
        if handle is None:
            return self._start_anew("handle_lost")
        try:
            return self._send_from(publication, handle)
        except ProbeRefused as error:
            return self._start_anew(error.code)

    def _send_from(self, publication: Publication, handle: Mapping[str, str]) -> Publication:
        """Send chunks from where TikTok's record ends, all but the last."""
        plan = _plan_of(publication, handle)
        stalls = self.stalls()
        received = publication.received_bytes
        has_expired = self._address_has_expired()
        if received or has_expired or publication.attempts > 1:
            status = self._probe(handle, stalls)
            if status.failure() is not None:
                return self._start_anew(str(status.fail_reason))
            if _has_all(status, plan):
                # A ledger restored from an older copy is behind TikTok.
                return self._is_complete("found_by_status")
            received = status.uploaded_bytes
        if has_expired:
            return self._start_anew("upload_url_expired")
        while (chunk := _chunk_at(plan, received)) is not None:
            start, end = chunk
            if end == plan.size:
                return self.allow_last_byte(publication, handle, received)
            data = self.media.read(start, end - start)
            try:
                received = self._put(handle, data, start, stalls).received
            except UploadUrlGone:
                break
            except PermanentError as error:
                return self.refuse(error)
            except TransientError as error:
                stalls.after(error)
                received = self._probe(handle, stalls).uploaded_bytes
                if received > start:
                    stalls.progress()
        return self._start_anew("upload_unusable")

    def _address_has_expired(self) -> bool:
        return self.ledger.age_of_session(self.claim) > UPLOAD_URL_LIFE

    def _start_anew(self, reason: str) -> Publication:
        """Back to the start: TikTok has never been sent the last byte, so nothing can be posted from that upload."""
        return self.ledger.advance(self.claim, State.PLANNED, reason=reason, received_bytes=0)

    def _finish(self, publication: Publication) -> Publication:
        handle = self.handle_of(publication)
        if handle is None:
            return self.reconcile("handle_lost")
        try:
            return self._send_the_rest(publication, handle)
        except ProbeRefused as error:
            # TikTok does not know the publish id (any more), and would say so every time it is asked.
            return self.reconcile(error.code)

    def _send_the_rest(self, publication: Publication, handle: Mapping[str, str]) -> Publication:
        """Send what is missing to this very upload, and find out whether TikTok has it all."""
        plan = _plan_of(publication, handle)
        stalls = self.stalls()
        while True:
            status = self._probe(handle, stalls)
            failure = status.failure()
            if failure is not None:
                return self.refuse(failure)
            if _has_all(status, plan):
                return self._is_complete("uploaded" if self.sent_last_byte else "found_by_status")
            chunk = _chunk_at(plan, status.uploaded_bytes)
            if chunk is None:
                return self.reconcile("upload_unusable")
            start, end = chunk
            data = self.media.read(start, end - start)
            self.sent_last_byte |= end == plan.size
            try:
                if self._put(handle, data, start, stalls).complete:
                    return self._is_complete("uploaded")
            except UploadUrlGone:
                return self.reconcile("upload_url_gone")
            except ChunkOutOfOrder as error:
                # TikTok has more than it says. Should it say so for ever, the post is looked for and not sent.
                try:
                    stalls.after(error)
                except TransientError:
                    return self.reconcile(error.code)
            except TransientError as error:
                stalls.after(error)
            except PermanentError as error:
                return self._park_unless_complete(handle, plan, stalls, error)

    def _park_unless_complete(
        self, handle: Mapping[str, str], plan: ChunkPlan, stalls: Stalls, error: PermanentError
    ) -> Publication:
        status = self._probe(handle, stalls)
        if _has_all(status, plan):
            return self._is_complete("found_by_status")
        return self.park("last_chunk_refused", error.message)

    def _is_complete(self, reason: str) -> Publication:
        return self.ledger.advance(
            self.claim, State.PROCESSING, reason=reason, received_bytes=self.media.size
        )

    def _poll(self, publication: Publication) -> Publication | None:
        handle = self.handle_of(publication)
        if handle is None:
            return self.reconcile("handle_lost")
        answer = "none"
        try:
            for _ in self.poll_waits():
                status = self.call(lambda client: client.status(handle[PUBLISH_ID]))
                answer = status.status
                failure = status.failure()
                if failure is not None:
                    return self.refuse(failure)
                if status.is_published:
                    return self._is_published(publication, status)
        except TransientError as error:
            # TikTok has the post; that its state cannot be read now is no failure of this run.
            self.ledger.note_trouble(self.claim, error)
            answer = f"{error.message} [{error.code}]"
        except PermanentError as error:
            return self.reconcile(error.code)
        return self.wait_or_park(answer)

    def _is_published(self, publication: Publication, status: PublishStatus) -> Publication:
        remote_id, url = status.post_ids[0] if status.post_ids else None, publication.url
        if remote_id is not None:
            url = page_of_post(publication, remote_id)
        return self.ledger.advance(
            self.claim, State.PUBLISHED, reason="publish_complete", remote_id=remote_id, url=url
        )

    def _look_for_it(self, publication: Publication) -> Publication | None:
        handle = self.handle_of(publication)
        if handle is None:
            return self.look_again_or_park()
        try:
            status = self._probe(handle, self.stalls())
        except ProbeRefused as error:
            # No answer about the post either way; after enough looks a person is asked.
            self.ledger.note_trouble(self.claim, error)
            return self.look_again_or_park()
        failure = status.failure()
        if failure is not None:
            return self.refuse(failure)
        plan = _plan_of(publication, handle)
        if _has_all(status, plan):
            return self._is_complete("found_by_status")
        parked = self.look_again_or_park()
        if parked is None and not self._address_has_expired() and _chunk_at(plan, status.uploaded_bytes):
            return self.finish_after_all()
        return parked

    def _probe(self, handle: Mapping[str, str], stalls: Stalls) -> PublishStatus:
        """Ask what became of the upload, again after transient failures. Raises ProbeRefused."""
        while True:
            try:
                return self.call(lambda client: client.status(handle[PUBLISH_ID]))
            except TransientError as error:
                stalls.after(error)
            except PermanentError as error:
                raise ProbeRefused(error.message, code=error.code, remedy=error.remedy) from error

    def _put(self, handle: Mapping[str, str], data: bytes, start: int, stalls: Stalls) -> ChunkProgress:
        progress = self.call(
            lambda client: client.put_chunk(handle[UPLOAD_URL], data, start, self.media.size),
            received_bytes=start,
        )
        stalls.progress()
        return progress


def _plan_of(publication: Publication, handle: Mapping[str, str]) -> ChunkPlan:
    """The chunks the upload was opened with, whatever the configuration says today."""
    size, chunk_size = publication.size_bytes, int(handle[CHUNK_SIZE])
    return ChunkPlan(size, chunk_size, max(1, size // chunk_size))


def _chunk_at(plan: ChunkPlan, received: int) -> tuple[int, int] | None:
    """Range of the chunk that starts at `received`; None when none does, so that the upload cannot go on."""
    index, rest = divmod(received, plan.chunk_size)
    return plan.range_of(index) if rest == 0 and index < plan.count else None


def _has_all(status: PublishStatus, plan: ChunkPlan) -> bool:
    return status.status != UPLOADING or status.uploaded_bytes >= plan.size
