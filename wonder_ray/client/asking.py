"""Asking the coordinator of one run, which is started where it does not live, and asked again where it dies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import ray

from wonder_ray.coordinator.actor import actor_name
from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, WonderError
from wonder_ray.ids import NAMESPACE
from wonder_ray.resources.actor import unwrap
from wonder_ray.services import CALL_SECONDS, FAILURES_MAX, RETRY_SECONDS

if TYPE_CHECKING:
    from wonder_ray.services import Services

_PASSING: Final = (StaleEpochError, ServiceUnavailableError)


class Asking:
    """How a driver reaches the coordinator of one run."""

    def __init__(self, services: Services, run_id: str) -> None:
        self._services = services
        self._run_id = run_id
        self._dead: str | None = None
        """The id of the coordinator that was last seen dead."""
        self._failures = 0

    def activate(self) -> Any:
        """The coordinator's handle; it is started when it does not live."""
        return self._services.call("directory", "activate", self._run_id, self._dead)

    def once(self, method: str, *args: Any, seconds: float = 0.0) -> Any:
        """Ask the coordinator, starting it when it does not live; None when it dies meanwhile, or gives no answer in time."""
        actor = self.activate()
        try:
            answer = ray.get(getattr(actor, method).remote(*args), timeout=seconds + CALL_SECONDS)
        except ray.exceptions.ActorDiedError:
            self._dead = actor._actor_id.hex()  # noqa: SLF001 - Ray has no public name for it
            ray.kill(actor)  # the name of a dead actor can stay; this frees it, and touches no other actor
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            pass
        except ray.exceptions.RayTaskError as error:
            self._note_failure(unwrap(error))
        else:
            self._failures = 0
            return answer
        time.sleep(RETRY_SECONDS)
        return None

    def until_answered(self, method: str, *args: Any) -> Any:
        """Ask as often as it takes: only what may be repeated.

        Raises:
            ServiceUnavailableError: Nobody answered for a minute.
        """
        deadline = time.monotonic() + CALL_SECONDS
        while (answer := self.once(method, *args)) is None:
            if time.monotonic() > deadline:
                msg = f"run {self._run_id}: its coordinator did not answer; the call may be repeated, with the same key"
                raise ServiceUnavailableError(msg)
        return answer

    def if_alive(self, method: str, *args: Any) -> Any:
        """Ask the coordinator that lives; None when none does, or it is busy dying."""
        try:
            actor = ray.get_actor(actor_name(self._run_id), namespace=NAMESPACE)
            return ray.get(getattr(actor, method).remote(*args), timeout=CALL_SECONDS)
        except (ValueError, ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return None
        except ray.exceptions.RayTaskError as error:
            meant = unwrap(error)
            if isinstance(meant, _PASSING) or not isinstance(meant, WonderError):
                return None
            raise meant from None

    def _note_failure(self, error: BaseException) -> None:
        """A coordinator has told why it refuses, or ends: raise that, unless the next one may get on."""
        self._failures += 1
        if isinstance(error, WonderError) and not isinstance(error, _PASSING):
            raise error from None
        self._services.renew()  # it may be one of them that it lacks
        if self._failures >= FAILURES_MAX:
            said = f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}"
            raise WonderError(
                f"run {self._run_id}: its coordinator keeps failing: {said}; see `wonder logs {self._run_id}`"
            ) from None
