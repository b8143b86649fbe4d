"""Every operation and helper of the original by its name; some that have none that matters are described."""

from __future__ import annotations

from typing import Final

_MANAGER: Final = """
constructor, resolveSession, getObservabilitySnapshot, reconcilePendingSessionIdentities, initializeSession,
getSessionStatus, setSessionRuntimeMode, setSessionConfigOption, updateSessionRuntimeOptions,
resetSessionRuntimeOptions, runTurn, cancelSession, closeSession,
resolveTurnTimeoutMs, awaitTurnWithTimeout, cleanupTimedOutTurn, awaitCleanupWithGrace,
ensureRuntimeHandle, isCachedRuntimeHandleReusable, isRuntimeStatusUnavailable, persistRuntimeOptions,
enforceConcurrentSessionLimit, recordTurnCompletion, recordErrorCode, shouldRetryTurnWithFreshHandle,
isRecoverableAcpxExitError, evictIdleRuntimeHandles, resolveRuntimeCapabilities, applyRuntimeControls,
setSessionState, reconcileRuntimeSessionIdentifiers, writeSessionMeta, withSessionActor, throwIfAborted,
getCachedRuntimeState, setCachedRuntimeState, clearCachedRuntimeState, clearCachedRuntimeStateIfHandleMatches,
runtimeHandlesMatch, resolveBackgroundTaskContext, createBackgroundTaskRecord, updateBackgroundTaskState,
summarizeBackgroundTaskText, appendBackgroundTaskProgressSummary, resolveBackgroundTaskFailureStatus,
resolveBackgroundTaskTerminalResult
"""

_BESIDE_IT: Final = """
SessionActorQueue.run, getTotalPendingCount, getTailMapForTesting, pending count of one session,
RuntimeCache.get, RuntimeCache.peek, RuntimeCache.has, RuntimeCache.size, RuntimeCache.set, RuntimeCache.clear,
RuntimeCache.getLastTouchedAt, RuntimeCache.collectIdleCandidates, snapshot of the cache,
validateRuntimeModeInput, validateRuntimeConfigOptionInput, validateRuntimeOptionPatch, normalizeRuntimeOptions,
mergeRuntimeOptions, runtimeOptionsEqual, resolveRuntimeOptionsFromMeta, inferRuntimeOptionPatchFromConfigOption,
normalizeText, control signature, config pairs,
applyManagerRuntimeControls, resolveManagerRuntimeCapabilities, reconcileManagerRuntimeSessionIdentifiers,
createIdentityFromEnsure, identity from status, identityEquals, isSessionIdentityPending, mergeSessionIdentity,
resolveRuntimeResumeSessionId, resolveRuntimeHandleIdentifiersFromIdentity, resolveSessionIdentityFromMeta,
hasLegacyAcpIdentityProjection,
AcpRuntimeError, toAcpRuntimeError, withAcpRuntimeErrorBoundary, normalizeAcpErrorCode,
createUnsupportedControlError, resolveMissingMetaError, resolveAcpSessionResolutionError, requireReadySessionMeta,
error text with a hint,
register a backend, unregister a backend, choose a backend, requireRuntimeBackend,
canonicalizeAcpSessionKey, normalizeActorKey, isAcpSessionKey, normalizeAgentId, resolveAcpAgentFromSessionKey,
resolveRuntimeIdleTtlMs, resolveAgentTimeoutMs,
createTaskRecord, updateTaskStateByRunId, readSessionEntry, upsertSessionMeta, listAcpSessions, logVerbose
"""

_DATA: Final = """
SessionAcpMeta, SessionEntry, AcpSessionRuntimeOptions, AcpRuntime, AcpRuntimeHandle, AcpRuntimeCapabilities,
AcpRuntimeStatus, AcpSessionManagerDeps, AcpSessionResolution, AcpSessionStatus, AcpCloseSessionResult,
AcpManagerObservabilitySnapshot, AcpStartupIdentityReconcileResult, ActiveTurnState, CachedRuntimeState,
TurnLatencyStats, events of a turn
"""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.replace("\n", " ").split(",") if name.strip())


OPERATIONS: Final = _names(",".join([_MANAGER, _BESIDE_IT, _DATA]))
