"""Posting on YouTube: resumable sessions, driven by the publication ledger.

The session URI is the oracle: a session makes at most one video, that video is on the channel only with its last
byte, and the session can be asked at any time how much it holds. So another session may be opened as long as the
last byte has not been allowed to leave, and never after. Called by the asset `youtube_publications`; HTTP is in
`vendors/youtube.py`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from ettametta_pipelines.failures import PermanentError, TransientError
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
from ettametta_pipelines.publishing.posts import Post
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.vendors.google_api import ACCESS_TOKEN_REJECTED
from ettametta_pipelines.vendors.youtube import (
    CHUNK_MULTIPLE,
    UploadProgress,
    VideoMetadata,
    VideoStatus,
    YouTubeApp,
    YouTubeChannel,
)

DEFAULT_CHUNK = 32 * CHUNK_MULTIPLE
MIME = "video/mp4"
# Newest uploads looked through for a marker: one page, and far more than a channel takes in a day.
LISTED_UPLOADS = 50
SESSION_URI = "session_uri"


def publish(workshop: Workshop, app: YouTubeApp, order: Order, *, chunk_size: int = DEFAULT_CHUNK) -> Outcome:
    """Post one rendition on the account's channel, or find what became of it; safe to repeat at any time.

    `chunk_size` in bytes, a multiple of 256 KiB. Raises what `delivery.deliver` raises.
    """
    if chunk_size < CHUNK_MULTIPLE or chunk_size % CHUNK_MULTIPLE:
        raise ValueError(f"YouTube takes chunks in multiples of {CHUNK_MULTIPLE} bytes, not {chunk_size}")
    return deliver(
        workshop,
        order,
        partial(YouTubeDelivery, app=app, chunk_size=chunk_size),
        page_of=lambda _, video_id: app.watch_url(video_id),
    )


def video_metadata(post: Post, marker: str) -> VideoMetadata:
    """What is sent with the video. Privacy is always said: YouTube's own default is public."""
    return VideoMetadata(
        title=post.title,
        description=post.described(marker),
        tags=post.tags,
        privacy=post.privacy,  # type: ignore[arg-type]
        made_for_kids=post.made_for_kids,
        synthetic_media=post.synthetic,
        paid_promotion=post.paid,
        license=post.license,  # type: ignore[arg-type]
    )


class YouTubeDelivery(Delivery[YouTubeChannel]):
    """One worker's upload to one channel."""

    unauthorized_codes = frozenset({ACCESS_TOKEN_REJECTED, "youtube_unauthorized"})

    def __init__(self, *context: object, app: YouTubeApp, chunk_size: int) -> None:
        super().__init__(*context, app=app)  # type: ignore[arg-type]
        self._app = app
        self._chunk_size = chunk_size

    @property
    def steps(self) -> Mapping[State, Callable[[Publication], Publication | None]]:
        return {
            State.PLANNED: self._open_session,
            State.SESSION_OPEN: self._send_all_but_the_last_chunk,
            State.FINALIZING: self._finish,
            State.PROCESSING: self._poll,
            State.RECONCILING: self._look_for_it,
        }

    def make_client(self, token: str) -> YouTubeChannel:
        return self._app.channel(token)

    def _open_session(self, publication: Publication) -> Publication:
        self.media.check()
        # A ledger restored from a backup does not know what was posted since; the channel does.
        if (moved := self.already_there(publication)) is not None:
            return moved
        self.count_session()
        self.ledger.spend_upload_slot(self.claim)
        metadata = video_metadata(self.order.post, publication.marker)
        try:
            uri = self.call(lambda channel: channel.open_upload_session(metadata, self.media.size, MIME))
        except PermanentError as error:
            return self.refuse(error)
        return self.ledger.advance(
            self.claim,
            State.SESSION_OPEN,
            reason="session_opened",
            detail={"size_bytes": self.media.size},
            handle={SESSION_URI: uri},
            received_bytes=0,
        )

    def already_there(self, publication: Publication) -> Publication | None:
        found = self._on_the_channel(publication)
        return self._adopt(found, "found_before_upload") if found else None

    def _send_all_but_the_last_chunk(self, publication: Publication) -> Publication:
        handle = self.handle_of(publication)
        if handle is None:
            return self._start_anew("handle_lost")
        uri, stalls = handle[SESSION_URI], self.stalls()
        try:
            progress = self._probe(uri, stalls)
        except ProbeRefused as error:
            return self.refuse(error)
        while progress.video_id is None and not progress.gone:
            if self.media.size - progress.received <= self._chunk_size:
                return self.allow_last_byte(publication, handle, progress.received)
            data = self._next_chunk(progress)
            try:
                progress = self._send(uri, progress.received, data, stalls)
            except PermanentError as error:
                return self.refuse(error)
        if progress.video_id is not None:
            return self._has_video(progress.video_id, "found_by_probe")
        return self._start_anew("session_gone")

    def _start_anew(self, reason: str) -> Publication:
        """Back to the start: the last byte has never left, so that session can make no video."""
        return self.ledger.advance(self.claim, State.PLANNED, reason=reason, received_bytes=0)

    def _finish(self, publication: Publication) -> Publication:
        handle = self.handle_of(publication)
        if handle is None:
            return self.reconcile("handle_lost")
        try:
            return self._send_the_rest(handle[SESSION_URI])
        except ProbeRefused as error:
            # Asked again it would refuse again; the channel is the witness that is left.
            return self.reconcile(error.code)

    def _send_the_rest(self, uri: str) -> Publication:
        """Send what is missing to this very session, and find out what it made of it."""
        stalls = self.stalls()
        progress = self._probe(uri, stalls)
        while progress.video_id is None and not progress.gone:
            if progress.received == self.media.size:
                # Seen in the wild: every byte held, 308 all the same, and the video there a little later.
                try:
                    stalls.after(_no_progress("has every byte but shows no video yet"))
                except TransientError:
                    return self.reconcile("complete_without_video")
                progress = self._probe(uri, stalls)
                continue
            data = self._next_chunk(progress)
            self.sent_last_byte |= progress.received + len(data) == self.media.size
            try:
                progress = self._send(uri, progress.received, data, stalls)
            except PermanentError as error:
                assumed, progress = progress.received, self._probe(uri, stalls)
                if progress.video_id is None and (progress.gone or progress.received == assumed):
                    return self.park("last_chunk_refused", error.message)
                if progress.video_id is None:
                    # Their place was refused, not the bytes: an earlier chunk came late and moved what is held.
                    stalls.after(_no_progress("holds other bytes than it said"))
        if progress.video_id is not None:
            return self._has_video(progress.video_id, "uploaded" if self.sent_last_byte else "found_by_probe")
        return self.reconcile("session_gone_after_last_chunk")

    def _poll(self, publication: Publication) -> Publication | None:
        video_id = publication.remote_id
        if video_id is None:
            return self.reconcile("video_id_missing")
        status = None
        try:
            for _ in self.poll_waits():
                status = self._status(video_id)
                if status is not None and status.is_final:
                    return self._settle(status)
        except TransientError as error:
            # The post exists; that its state cannot be read now is no failure of this run.
            self.ledger.note_trouble(self.claim, error)
            return self.wait_or_park(f"{error.message} [{error.code}]")
        except PermanentError as error:
            return self.reconcile(error.code)
        if status is None:
            return self.reconcile("video_not_visible")
        return self.wait_or_park(f"the video {video_id} is {status.upload_status}")

    def _settle(self, status: VideoStatus) -> Publication:
        if status.upload_status == "processed":
            return self.ledger.advance(
                self.claim,
                State.PUBLISHED,
                reason="processed",
                detail={"privacy": status.privacy},
                privacy=status.privacy or self.order.post.privacy,
            )
        why = status.rejection_reason or status.failure_reason or status.upload_status
        return self.refuse(
            PermanentError(
                f"YouTube has the video {status.video_id} but {status.upload_status} it ({why}).",
                code=f"youtube_{status.upload_status}",
            )
        )

    def _look_for_it(self, publication: Publication) -> Publication | None:
        if publication.remote_id is not None:
            return self._look_for_video(publication.remote_id)
        session = self._ask_session_once_more(publication)
        if session is not None and session.video_id is not None:
            return self._has_video(session.video_id, "found_by_probe")
        found = self._on_the_channel(publication)
        if found:
            return self._adopt(found, "found_on_channel")
        if session is not None and not session.gone and session.received < self.media.size:
            self.count_look()
            return self.finish_after_all()
        return self.look_again_or_park()

    def _look_for_video(self, video_id: str) -> Publication | None:
        try:
            visible = self._status(video_id) is not None
        except PermanentError as error:
            # No answer either way; after enough looks a person is asked.
            self.ledger.note_trouble(self.claim, error)
            visible = False
        return self._has_video(video_id, "visible_again") if visible else self.look_again_or_park()

    def _ask_session_once_more(self, publication: Publication) -> UploadProgress | None:
        """What the session says now; None when it cannot be asked."""
        handle = self.handle_of(publication)
        if handle is None:
            return None
        try:
            return self._probe(handle[SESSION_URI], self.stalls())
        except ProbeRefused as error:
            self.ledger.note_trouble(self.claim, error)
            return None

    def _on_the_channel(self, publication: Publication) -> list[str]:
        """Ids of recent uploads whose description carries the publication's marker."""
        playlist = self.connection.uploads_playlist
        if playlist is None:
            return []
        self._spend_unit()
        try:
            uploads = self.call(lambda channel: channel.recent_uploads(playlist, LISTED_UPLOADS))
        except PermanentError as error:
            # A channel that never had an upload has no uploads playlist yet.
            if error.code != "youtube_not_found":
                raise
            return []
        return [upload.video_id for upload in uploads if publication.marker in upload.description]

    def _adopt(self, found: list[str], reason: str) -> Publication:
        if len(found) == 1:
            return self._has_video(found[0], reason)
        return self.ledger.advance(
            self.claim,
            State.INCIDENT,
            reason="posted_more_than_once",
            detail={"video_ids": found},
            error_code="posted_more_than_once",
            error_message=f"The channel has {len(found)} videos of this publication: {', '.join(found)}.",
        )

    def _has_video(self, video_id: str, reason: str) -> Publication:
        return self.ledger.advance(
            self.claim,
            State.PROCESSING,
            reason=reason,
            detail={"video_id": video_id},
            remote_id=video_id,
            url=self._app.watch_url(video_id),
            received_bytes=self.media.size,
        )

    def _probe(self, uri: str, stalls: Stalls) -> UploadProgress:
        """Ask the session how far it is, again after transient failures. Raises ProbeRefused."""
        while True:
            try:
                return self.call(lambda channel: channel.query_session(uri, self.media.size))
            except TransientError as error:
                stalls.after(error)
            except PermanentError as error:
                raise ProbeRefused(error.message, code=error.code, remedy=error.remedy) from error

    def _next_chunk(self, progress: UploadProgress) -> bytes:
        return self.media.read(progress.received, min(self._chunk_size, self.media.size - progress.received))

    def _send(self, uri: str, start: int, data: bytes, stalls: Stalls) -> UploadProgress:
        """Send one chunk. Whatever goes wrong on the way is answered by asking the session, not by sending again."""
        try:
            progress = self.call(
                lambda channel: channel.put_range(uri, data, start, self.media.size), received_bytes=start
            )
        except TransientError as error:
            stalls.after(error)
            progress = self._probe(uri, stalls)
            if _has_moved(progress, start):
                stalls.progress()
            return progress
        if _has_moved(progress, start):
            stalls.progress()
        else:
            stalls.after(_no_progress("took a chunk without holding more than before"))
        return progress

    def _status(self, video_id: str) -> VideoStatus | None:
        self._spend_unit()
        return self.call(lambda channel: channel.video_status(video_id))

    def _spend_unit(self) -> None:
        quota.commit(
            self.workshop.db, quota.reserve(self.workshop.db, "youtube", "units", 1, self.workshop.clock)
        )


def _has_moved(progress: UploadProgress, start: int) -> bool:
    return progress.received > start or progress.video_id is not None or progress.gone


def _no_progress(what: str) -> TransientError:
    return TransientError(
        f"The upload session {what}.",
        code="upload_without_progress",
        remedy="Run the publication again later; it goes on from the byte YouTube holds.",
    )
