"""Every error wonder-ray raises on purpose, under one root.

A message says what happened, where (run, node, token, field) and what to do about it.

>>> raise DefinitionError("node 'fetch': unknown action 'ftech'; did you mean 'fetch'?")
Traceback (most recent call last):
wonder_ray.errors.DefinitionError: node 'fetch': unknown action 'ftech'; did you mean 'fetch'?
"""

from __future__ import annotations


class WonderError(Exception):
    """Root of all errors raised by wonder-ray."""


class DefinitionError(WonderError):
    """A workflow definition cannot be used: malformed, contradictory or unsound."""


class ExpressionError(WonderError):
    """A CEL expression does not compile or could not be evaluated; the text and the value are in the message."""


class InputError(WonderError):
    """A run's input breaks the schema of its workflow; the run was not created."""

    pointer: str = ""
    """JSON Pointer of the offending place in the input; empty is the whole input."""


class NotFoundError(WonderError):
    """There is no workspace, project, bundle, API key, secret, ... of this name."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(message)
        self.what = what
        """`workspace`, `project`, `bundle`, ..."""

    def __reduce__(self) -> tuple[object, ...]:
        return (NotFoundError, (self.what, str(self)))


class ActionNotFoundError(DefinitionError):
    """A definition names an action that its code bundle does not hold."""


class ConflictError(WonderError):
    """What is asked for contradicts what is there: it exists already, or is not empty."""


class AuthenticationError(WonderError):
    """No API key was given, or none that is known and still good. Which of these it is, is in the log only."""


class ForbiddenError(WonderError):
    """The API key is good, but not for this."""


class RateLimitedError(WonderError):
    """There were too many requests; after `retry_after_s` the same one may succeed."""

    def __init__(self, message: str, *, retry_after_s: float, limit: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit
        """Requests per second."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_rate_limited, (str(self), self.retry_after_s, self.limit))


class SecretError(WonderError):
    """A secret cannot be had: there is none of this name, or the place that holds its value does not have it."""

    retryable: bool = False
    """Whether another attempt may have it."""


class KeyConflictError(WonderError):
    """A start reused the `key` of a run that has another definition or another input."""

    run_id: str = ""
    """The run that the key belongs to."""


class RunNotFoundError(WonderError):
    """No run with this id (or key) is known to the storage."""


class RunFailedError(WonderError):
    """The run ended without completing; `status` and `error` tell how."""

    def __init__(self, message: str, *, run_id: str, status: str, error: dict[str, object] | None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.status = status
        self.error = error

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_run_failed, (str(self), self.run_id, self.status, self.error))


class StaleEpochError(WonderError):
    """A coordinator (or service) acted under an epoch that a newer one has fenced off."""


class StorageError(WonderError):
    """The storage folder or one of its files cannot be used; the message says which and how to mend it."""


class HistoryConflictError(WonderError):
    """Two different events claim one sequence number of a run; nothing was dropped or overwritten."""


class PayloadError(WonderError):
    """A value is no JSON, or is larger than its limit."""


class QueryError(WonderError):
    """A query of logs or events is no query, would do more than read, or took too long; the message quotes it."""


class CodeBundleError(WonderError):
    """The code of a workflow could not be packed, found or loaded."""


class IllegalTransitionError(WonderError):
    """A token or run was asked to make a move that its status table does not allow (a bug in a planner)."""


class CommandRefusedError(WonderError):
    """A run cannot do what it was asked (a signal nobody knows, an update that breaks the schema); nothing was recorded."""


class ServiceUnavailableError(WonderError):
    """A wonder-ray service (coordinator, resources, events, logs) did not answer; the call may be retried."""


class ActionError(WonderError):
    """Raise this in an action to fail it with an error type of your own.

    Args:
        type: The error type that transitions (`on="failed[type]"`) and retry rules match.
        message: What happened.
        retryable: False ends the attempts at once, whatever the retry policy says.

    Example:
        >>> raise ActionError("RateLimited", "429 from the API", retryable=True)
        Traceback (most recent call last):
        wonder_ray.errors.ActionError: 429 from the API
    """

    def __init__(self, type: str, message: str = "", *, retryable: bool = True) -> None:  # noqa: A002 - the field's standard name
        super().__init__(message)
        self.type = type
        self.message = message
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_action_error, (self.type, self.message, self.retryable))


def _rebuild_run_failed(message: str, run_id: str, status: str, error: dict[str, object] | None) -> RunFailedError:
    return RunFailedError(message, run_id=run_id, status=status, error=error)


def _rebuild_rate_limited(message: str, retry_after_s: float, limit: float) -> RateLimitedError:
    return RateLimitedError(message, retry_after_s=retry_after_s, limit=limit)


def _rebuild_action_error(type_: str, message: str, retryable: bool) -> ActionError:  # noqa: FBT001 - called by pickle
    return ActionError(type_, message, retryable=retryable)
