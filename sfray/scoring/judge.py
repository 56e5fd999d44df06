"""An LLM as judge, over any OpenAI-compatible endpoint.

Every verdict is logged with the judge's name, the prompts' fingerprint and its raw reply, so that
a judgement can be read again, and is never asked for twice. What an endpoint didn't answer after
retries is not logged and is asked for by the next call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai
import tenacity

from sfray.errors import RunError
from sfray.scoring.judge_log import JudgeLog
from sfray.scoring.judge_prompts import JudgePrompts, Verdict, read_verdict
from sfray.scoring.metrics import ASPECTS, Row, is_answered, judge_units

logger = logging.getLogger("sfray")

OPENAI_URL = "https://api.openai.com/v1"
_MAX_REPLIES = 3
_MAX_REPLY_TOKENS = 200
# A longer pause than this is no rate limit but a quota that is used up.
_MAX_PAUSE_SECONDS = 300.0
_SECONDS_PER_PART = 15.0
# So many requests in a row without any answer: the endpoint is down, not busy; or it refuses all
# of them, not one whose answer is too long for the judge.
_MAX_LOST_IN_A_ROW = 20
_MAX_REFUSED_IN_A_ROW = 5
_REFUSES_ALL = (401, 403, 404)


class JudgeError(RunError):
    """The judge's endpoint refuses all requests or can't be reached."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """The judge and how hard it may be worked.

    Attributes:
        max_retries: of one request after a passing fault (429, 5xx, a cut connection, a body
            that is no completion). After a 429 all requests wait, as long as it says.
        requests_per_minute: None doesn't limit them.
        units_per_part: so many verdicts are logged at a time, or fewer after some seconds.
    """

    model: str
    base_url: str | None
    api_key: str
    concurrency: int = 8
    requests_per_minute: float | None = None
    max_retries: int = 6
    timeout_seconds: float = 60.0
    units_per_part: int = 100


@dataclass(slots=True)
class JudgeSummary:
    """What one call did.

    Attributes:
        num_wanted: verdicts that the answers call for.
        num_known: of these, logged by earlier calls.
        num_refused, num_unreadable: new ones that the judge would not or could not give; they
            are logged, so that they are not asked for again, and count as wrong.
        num_lost: not answered after all retries; the next call asks again.
    """

    num_wanted: int = 0
    num_known: int = 0
    num_judged: int = 0
    num_refused: int = 0
    num_unreadable: int = 0
    num_lost: int = 0
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0

    @property
    def num_done(self) -> int:
        """Verdicts that are logged, earlier calls' included, and those lost for now."""
        new = self.num_judged + self.num_refused + self.num_unreadable + self.num_lost
        return self.num_known + new

    def cost(self, per_million_prompt: float, per_million_completion: float) -> float:
        """What the tokens of this call cost, in the prices' currency."""
        return (
            self.num_prompt_tokens * per_million_prompt
            + self.num_completion_tokens * per_million_completion
        ) / 1e6


def judge(
    rows: Sequence[Row],
    log: JudgeLog,
    spec: JudgeSpec,
    prompts: JudgePrompts,
    on_progress: Callable[[JudgeSummary], None] = lambda _: None,
) -> JudgeSummary:
    """Judges all answers that are not judged yet by this model with these prompts.

    Args:
        rows: results with the report's columns.

    Raises:
        JudgeError: the endpoint refuses the key or the model, or does not answer at all.
    """
    known = {
        (row["request_id"], row["aspect"])
        for row in log.rows()
        if row["judge_model"] == spec.model and row["prompt_fingerprint"] == prompts.fingerprint
    }
    tasks = [
        (aspect, unit)
        for aspect in ("answer", *ASPECTS)
        for unit in judge_units(rows, aspect)
        if _is_judgeable(aspect, unit)
    ]
    summary = JudgeSummary(num_wanted=len(tasks))
    open_tasks = [task for task in tasks if (task[1][0]["request_id"], task[0]) not in known]
    summary.num_known = len(tasks) - len(open_tasks)
    asyncio.run(_Judging(log, spec, prompts, summary, on_progress).run(open_tasks))
    return summary


def _is_judgeable(aspect: str, unit: Sequence[Row]) -> bool:
    """An answer without text needs no judge: it is wrong. A pair needs both of its answers."""
    complete = len(unit) == (2 if aspect == "consistency" else 1)
    return complete and all(is_answered(row) and row["text"].strip() for row in unit)


class _Judging:
    """One call of `judge`: workers that share a queue, and what they found so far."""

    def __init__(
        self,
        log: JudgeLog,
        spec: JudgeSpec,
        prompts: JudgePrompts,
        summary: JudgeSummary,
        on_progress: Callable[[JudgeSummary], None],
    ) -> None:
        self._log = log
        self._spec = spec
        self._prompts = prompts
        self._summary = summary
        self._on_progress = on_progress
        self._waiting: list[dict[str, Any]] = []
        self._last_put = time.monotonic()
        self._next_start = 0.0
        self._lost_in_a_row = 0

    async def run(self, tasks: Sequence[tuple[str, Sequence[Row]]]) -> None:
        queue = iter(tasks)
        spec = self._spec
        client = openai.AsyncOpenAI(
            base_url=spec.base_url,
            api_key=spec.api_key,
            max_retries=0,  # _ask does it, so that all workers wait together
            timeout=spec.timeout_seconds,
        )
        try:
            async with client, asyncio.TaskGroup() as group:
                for _ in range(min(spec.concurrency, len(tasks))):
                    group.create_task(self._work(client, queue))
        except* RunError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._log.append(self._waiting)

    async def _work(self, client: openai.AsyncOpenAI, queue: Any) -> None:
        for aspect, unit in queue:
            row = await self._judge_one(client, aspect, unit)
            if row is None:
                continue
            self._waiting.append(row)
            waited = time.monotonic() - self._last_put
            if len(self._waiting) >= self._spec.units_per_part or waited > _SECONDS_PER_PART:
                rows, self._waiting = self._waiting, []
                self._last_put = time.monotonic()
                self._log.append(rows)
            self._on_progress(self._summary)

    async def _judge_one(
        self, client: openai.AsyncOpenAI, aspect: str, unit: Sequence[Row]
    ) -> dict[str, Any] | None:
        """The log's row on a unit; None if the endpoint gave no answer."""
        summary = self._summary
        row: dict[str, Any] = {
            "request_id": unit[0]["request_id"],
            "pair_request_id": unit[1]["request_id"] if len(unit) > 1 else None,
            "aspect": aspect,
            "judge_model": self._spec.model,
            "prompt_fingerprint": self._prompts.fingerprint,
            "num_prompt_tokens": 0,
            "num_completion_tokens": 0,
        }
        messages = self._prompts.messages(aspect, unit)
        for num_replies in range(1, _MAX_REPLIES + 1):
            reply = await self._ask(client, messages)
            if reply is None:
                summary.num_lost += 1
                return None
            for name in ("num_prompt_tokens", "num_completion_tokens"):
                row[name] += getattr(reply, name)
                setattr(summary, name, getattr(summary, name) + getattr(reply, name))
            row |= {
                "num_replies": num_replies,
                "raw_reply": reply.text,
                "answering_model": reply.model,
            }
            if reply.refused:
                summary.num_refused += 1
                return row | {"status": "refused"}
            verdict = read_verdict(reply.text, aspect)
            if verdict is not None:
                summary.num_judged += 1
                return row | _verdict_columns(verdict)
            messages = [
                *messages,
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": self._prompts.repair},
            ]
        summary.num_unreadable += 1
        return row | {"status": "unreadable"}

    async def _ask(
        self, client: openai.AsyncOpenAI, messages: list[dict[str, str]]
    ) -> _Reply | None:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_passing),
            stop=tenacity.stop_after_attempt(1 + self._spec.max_retries),
            wait=self._pause,
            reraise=True,
        )
        try:
            reply: _Reply = await retrying(self._complete, client, messages)
        except openai.APIStatusError as error:
            if _is_content_filter(error):
                return _Reply("", True, self._spec.model, 0, 0)
            self._note_lost(error)
            return None
        except (openai.APIConnectionError, openai.APIResponseValidationError, ValueError) as error:
            self._note_lost(error)
            return None
        self._lost_in_a_row = 0
        return reply

    async def _complete(self, client: openai.AsyncOpenAI, messages: list[dict[str, str]]) -> _Reply:
        await self._wait_for_turn()
        completion = await client.chat.completions.create(
            model=self._spec.model,
            messages=messages,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=_MAX_REPLY_TOKENS,
        )
        return _reply_of(completion)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try; a 429 holds the other workers back as well."""
        error = state.outcome.exception() if state.outcome else None
        wanted = _retry_after(error)
        seconds = _backoff(state) if wanted is None else wanted
        if isinstance(error, openai.RateLimitError):
            self._next_start = max(self._next_start, time.monotonic() + seconds)
        return seconds

    def _note_lost(self, error: Exception) -> None:
        self._lost_in_a_row += 1
        reason = self._reason(error)
        logger.warning("the judge did not answer: %s", reason)
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        refused = status is not None and not _is_passing(error)
        if status in _REFUSES_ALL or (refused and self._lost_in_a_row >= _MAX_REFUSED_IN_A_ROW):
            raise JudgeError(
                f"the judge's endpoint refuses requests for model {self._spec.model!r} with "
                f"{reason}"
            ) from error
        if self._lost_in_a_row >= _MAX_LOST_IN_A_ROW:
            raise JudgeError(
                f"the judge did not answer {self._lost_in_a_row} requests in a row, retries "
                f"included; the last fault was {reason}"
            ) from error

    def _reason(self, error: Exception) -> str:
        if not isinstance(error, openai.APIStatusError):
            return type(error).__name__
        said = error.body.get("message") if isinstance(error.body, dict) else None
        reason = f"status {error.status_code}" + (f" ({said})" if said else "")
        return reason.replace(self._spec.api_key, "***")

    async def _wait_for_turn(self) -> None:
        """Waits out a pause, and spaces requests evenly where their rate is limited."""
        start = max(time.monotonic(), self._next_start)
        if self._spec.requests_per_minute is not None:
            self._next_start = start + 60.0 / self._spec.requests_per_minute
        await asyncio.sleep(start - time.monotonic())


_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def _is_passing(error: BaseException) -> bool:
    """Whether asking again may help."""
    if isinstance(error, openai.APIStatusError):
        passing = error.status_code >= 500 or error.status_code in (408, 409, 429)
        return passing and (_retry_after(error) or 0) <= _MAX_PAUSE_SECONDS
    kinds = (openai.APIConnectionError, openai.APIResponseValidationError, ValueError)
    return isinstance(error, kinds)


def _retry_after(error: BaseException | None) -> float | None:
    """The seconds that an endpoint wants to be left alone, by its headers."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        return _seconds_until(headers.get("retry-after", ""))


def _seconds_until(date: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Reply:
    text: str
    refused: bool
    model: str
    num_prompt_tokens: int
    num_completion_tokens: int


def _reply_of(completion: Any) -> _Reply:
    """The reply in a completion; raises `ValueError` if it isn't one, as from a broken server."""
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ValueError("the endpoint's answer holds no message")
    choice, usage = choices[0], completion.usage
    refusal = getattr(choice.message, "refusal", None)
    return _Reply(
        text=choice.message.content or refusal or "",
        refused=bool(refusal) or choice.finish_reason == "content_filter",
        model=completion.model or "",
        num_prompt_tokens=usage.prompt_tokens if usage else 0,
        num_completion_tokens=usage.completion_tokens if usage else 0,
    )


def _is_content_filter(error: openai.APIStatusError) -> bool:
    return error.status_code == 400 and getattr(error, "code", None) == "content_filter"


def _verdict_columns(verdict: Verdict) -> dict[str, Any]:
    return {"status": "judged", "verdict": verdict.correct, "score": verdict.score}
