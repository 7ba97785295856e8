"""WHAT TO DO: one frozen class per decision. Planners return them, the coordinator executes them, nobody stores them.

A decision is plain data in the declarative tense; executing it produces the workflow event named in its docstring.

>>> import msgspec
>>> msgspec.to_builtins(CloseGroup(group_id="g_1"))
{'type': 'CLOSE_GROUP', 'group_id': 'g_1'}
"""

from __future__ import annotations

from wonder_ray.decisions._base import (
    Decision,
    Write,
)
from wonder_ray.decisions._groups import (
    AbsorbArrivals,
    ActivateFanIn,
    CancelGroup,
    CloseGroup,
    CompleteGroup,
    FailGroup,
    MergeBranches,
    OpenGroup,
    ResetFanIn,
    SealGroup,
    TolerateFailure,
)
from wonder_ray.decisions._runs import (
    BeginEnding,
    CancelWorkflow,
    CompleteUndo,
    CompleteWorkflow,
    FailWorkflow,
    MarkRunRunning,
    MarkRunWaiting,
    RegisterUndo,
    StartCompensation,
    TimeOutWorkflow,
)
from wonder_ray.decisions._tokens import (
    ApplyOutput,
    BatchCreateTokens,
    CancelTokens,
    CreateToken,
    MarkForDispatch,
    MarkWaiting,
    RequeueToken,
    ScheduleRetry,
    SetContext,
    UpdateTokenStatus,
)
from wonder_ray.decisions._waits import (
    AcceptAnswer,
    AcquireLocks,
    AwaitSignal,
    CancelChild,
    ConsumeSignal,
    DropSignal,
    EscalateGate,
    FireTimer,
    OpenGate,
    RefuseAnswer,
    RequestLocks,
    SetTimer,
    StartChild,
)

__all__ = [
    "AbsorbArrivals",
    "AcceptAnswer",
    "AcquireLocks",
    "ActivateFanIn",
    "ApplyOutput",
    "AwaitSignal",
    "BatchCreateTokens",
    "BeginEnding",
    "CancelChild",
    "CancelGroup",
    "CancelTokens",
    "CancelWorkflow",
    "CloseGroup",
    "CompleteGroup",
    "CompleteUndo",
    "CompleteWorkflow",
    "ConsumeSignal",
    "CreateToken",
    "Decision",
    "DropSignal",
    "EscalateGate",
    "FailGroup",
    "FailWorkflow",
    "FireTimer",
    "MarkForDispatch",
    "MarkRunRunning",
    "MarkRunWaiting",
    "MarkWaiting",
    "MergeBranches",
    "OpenGate",
    "OpenGroup",
    "RefuseAnswer",
    "RegisterUndo",
    "RequestLocks",
    "RequeueToken",
    "ResetFanIn",
    "ScheduleRetry",
    "SealGroup",
    "SetContext",
    "SetTimer",
    "StartChild",
    "StartCompensation",
    "TimeOutWorkflow",
    "TolerateFailure",
    "UpdateTokenStatus",
    "Write",
]
