"""The original's tests by number, and what shows here that the same holds, or what holds instead.

The numbers are those of a catalogue of its behaviour, T-001 to T-262.  Its
author marked each test: S, the behaviour holds for the version that is
re-implemented here; A or L, it was added later; X, it concerns only the
product around it.  `SEED` has every number marked S, whatever else it is
marked with.  `ROBUSTNESS` has those later ones that the catalogue names, at
the end of its list, as worth having all the same; T-050 is named there too,
and is in `SEED` already.

A row tells the law in our own words.  `changed` says why another law holds
here, and names the decision: D- is a later change of the original that was
adopted, E- a weakness of it that was remedied, and "design" our own design.
The tests are then those of the law that holds here.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Row:
    """One test of the original: the law that it shows, the tests that show it here, and why if it is another one."""

    law: str
    tests: tuple[str, ...]
    changed: str = ""


def _numbers(*numbers: int) -> tuple[str, ...]:
    return tuple(f"T-{number:03}" for number in numbers)


SEED: Final = _numbers(
    *range(1, 38), 40, 46, 50, 59, 62, 74, 75, 82, 83, 98, 99, *range(100, 106), *range(106, 111), 111
)
ROBUSTNESS: Final = _numbers(
    *(38, 39, 41, 48, 49, 53, 57, 58, 64, 128, 131, 171, 172, 173, 174, 187, 201, 211, 248, 251, 252, 255, 256, 257),
    *(260, 261),
)

_T: Final = "tests/original/test_turns.py::"
_H: Final = "tests/original/test_handles.py::"
_I: Final = "tests/original/test_identity.py::"
_O: Final = "tests/original/test_options.py::"
_QUEUE: Final = "tests/test_turn_queue.py::"
_CANCEL: Final = "tests/test_turn_cancel.py::"
_CONTROLS: Final = "tests/test_controls.py::"
_MANAGER: Final = "tests/test_manager.py::"
_EVICTOR: Final = "tests/test_evictor.py::"
_RETRY: Final = "tests/test_turn_retry.py::"
_CLOSE: Final = "tests/test_close.py::"
_BACKENDS: Final = "tests/test_backends.py::"
_LEDGER: Final = "tests/test_background_tasks.py::"

TABLE: Final[dict[str, Row]] = {
    # -- sessions and turns ---------------------------------------------------
    "T-001": Row(
        "a key that was made for a session and has no metadata is stale",
        (
            "tests/test_resolve.py::test_a_key_is_ready_stale_or_missing",
            "tests/test_resolve.py::test_a_stale_session_is_told_from_a_missing_one_wherever_it_is_used",
        ),
    ),
    "T-002": Row(
        "the main session is found under its alias, after a restart too",
        (f"{_BACKENDS}test_the_main_alias_is_the_main_session", "tests/test_keys.py::test_the_canonical_form_of_a_key"),
    ),
    "T-003": Row(
        "a turn for another session is recorded, with its progress and why it was blocked",
        (f"{_LEDGER}test_a_turn_that_ends_well", f"{_LEDGER}test_a_turn_that_says_it_was_denied_is_blocked"),
    ),
    "T-004": Row(
        "turns of one session run one at a time", (f"{_QUEUE}test_turns_of_a_session_run_one_at_a_time_in_order",)
    ),
    "T-005": Row(
        "who gives up in the queue is released at once, and the backend never hears of it",
        (f"{_T}test_a_caller_that_gives_up_in_the_queue_leaves_it_at_once",),
        "D-11: it is no error but the caller's own cancellation",
    ),
    "T-006": Row(
        "a hung turn times out, its handle is kept, and the next turn runs on it",
        (f"{_T}test_a_turn_that_hangs_times_out_and_the_next_one_runs_on_the_same_handle",),
        "design: turns that timed out are counted apart from those that failed",
    ),
    "T-007": Row(
        "a timed-out handle counts until its cleanup is finished",
        (f"{_H}test_a_session_that_owes_an_answer_keeps_its_room", f"{_EVICTOR}test_a_suspect_is_nobodys_room"),
    ),
    "T-008": Row(
        "turns of different sessions run together", (f"{_QUEUE}test_turns_of_different_sessions_run_together",)
    ),
    "T-009": Row("a session is opened once for many turns", (f"{_H}test_a_session_is_opened_once_for_many_turns",)),
    "T-010": Row(
        "a handle that is dead is replaced before the next turn",
        (
            f"{_H}test_a_handle_that_died_is_closed_and_opened_again",
            f"{_MANAGER}test_a_lost_connection_is_replaced_by_the_next_turn",
            f"{_I}test_a_handle_on_which_something_failed_is_asked_how_it_is",
        ),
        "E-19, D-13: supervision tells, and a probe is sent only on suspicion; the old handle is closed",
    ),
    "T-011": Row(
        "a new manager opens the session again",
        (f"{_H}test_each_manager_opens_its_own_handle_and_resumes_what_is_stored",),
    ),
    "T-012": Row(
        "it resumes by the stored id",
        (
            f"{_H}test_each_manager_opens_its_own_handle_and_resumes_what_is_stored",
            "tests/test_acp_sessions.py::test_a_stored_session_is_resumed_by_the_next_manager",
        ),
    ),
    "T-013": Row("a oneshot is never resumed", (f"{_H}test_a_oneshot_is_never_resumed",)),
    "T-014": Row(
        "what cannot be resumed begins anew, and the new id is stored",
        (
            f"{_H}test_a_conversation_that_is_lost_is_replaced_with_all_its_ids",
            f"{_H}test_another_refusal_to_resume_is_told_and_loses_nothing",
        ),
        "design: only on the error that says so; any other refusal loses no conversation",
    ),
    "T-015": Row(
        "a turn of another session is refused on a full house",
        (f"{_H}test_a_full_house_refuses_if_nobody_is_idle", f"{_H}test_a_full_house_makes_room_of_who_is_idle"),
        "design: only if nobody is idle; else the longest idle makes room",
    ),
    "T-016": Row(
        "so is a start",
        (f"{_H}test_a_full_house_refuses_if_nobody_is_idle", f"{_H}test_a_full_house_makes_room_of_who_is_idle"),
        "design: as T-015",
    ),
    "T-017": Row(
        "a handle whose backend is unavailable does not count after a tolerated close",
        (f"{_CLOSE}test_a_close_that_fails_is_raised_or_reported",),
    ),
    "T-018": Row(
        "nor does one whose process has exited",
        (f"{_CLOSE}test_a_close_that_fails_is_raised_or_reported",),
    ),
    "T-019": Row(
        "idle handles are closed before the limit refuses anybody",
        (
            f"{_H}test_what_is_idle_long_enough_is_closed_before_anybody_needs_its_room",
            f"{_EVICTOR}test_the_longest_idle_makes_room",
        ),
        "E-01: at its own second, by a task of the manager, and by no operation",
    ),
    "T-020": Row("latencies and errors are counted", (f"{_T}test_turns_are_counted_with_their_time_and_their_error",)),
    "T-021": Row(
        "what was opened is closed if its metadata cannot be stored",
        (f"{_MANAGER}test_a_start_that_cannot_be_stored_is_rolled_back",),
    ),
    "T-022": Row(
        "cancelling pre-empts the running turn, once, and the session is idle",
        (f"{_T}test_cancelling_a_running_turn_leaves_the_session_idle",),
    ),
    "T-023": Row(
        "nothing is kept of a lane that is not used", (f"{_T}test_nothing_is_kept_of_a_lane_that_is_not_used",)
    ),
    "T-024": Row(
        "a failure after the agent's last word fails the turn",
        (f"{_T}test_what_an_adapter_raises_after_its_last_event_fails_the_turn",),
        "D-09: the last word is what `run_turn` returns, so the failure comes instead of it",
    ),
    "T-025": Row(
        "a session that cannot be opened is in error, never running",
        (f"{_T}test_a_session_that_cannot_be_opened_is_in_error_and_never_running",),
    ),
    "T-026": Row(
        "an early exit is retried once, on a fresh handle",
        (f"{_RETRY}test_an_early_exit_is_retried_once", f"{_T}test_a_session_is_never_in_error_between_two_attempts"),
        "E-13: the first handle is closed",
    ),
    "T-027": Row("a mode is set and stored", (f"{_CONTROLS}test_a_mode_is_set_and_stored",)),
    "T-028": Row(
        "after a change all options are told again", (f"{_O}test_one_changed_option_has_all_of_them_told_again",)
    ),
    "T-029": Row(
        "what the status tells after a turn replaces older ids",
        (f"{_I}test_what_the_status_tells_after_a_turn_replaces_older_ids",),
        "E-20: after the caller went on",
    ),
    "T-030": Row(
        "ids that were never confirmed are confirmed after a restart",
        (f"{_I}test_ids_that_were_never_confirmed_are_confirmed_after_a_restart",),
    ),
    "T-031": Row(
        "a restart leaves confirmed sessions alone",
        (f"{_I}test_a_restart_leaves_the_others_alone",),
    ),
    "T-032": Row(
        "ids survive a backend that tells none",
        (f"{_I}test_ids_survive_a_backend_that_tells_none",),
    ),
    "T-033": Row(
        "stored options are told before the prompt", (f"{_O}test_stored_options_are_told_before_the_first_prompt",)
    ),
    "T-034": Row(
        "a backend without options refuses one",
        (
            f"{_CONTROLS}test_what_the_backend_does_not_offer_is_refused",
            f"{_CONTROLS}test_a_runtime_need_not_have_controls",
        ),
    ),
    "T-035": Row(
        "wrong values are refused before the backend hears of them",
        (f"{_CONTROLS}test_wrong_options_are_refused_before_anything_happens",),
    ),
    "T-036": Row(
        "a session whose backend is missing can be closed and forgotten",
        (f"{_CLOSE}test_a_session_of_an_agent_that_is_not_registered_can_be_forgotten",),
        "E-16: no backend is looked up in order to close nothing, so no flag is needed",
    ),
    "T-037": Row(
        "metadata that cannot be deleted is an error of `close`",
        (f"{_H}test_metadata_that_cannot_be_deleted_is_an_error_of_close", f"{_CLOSE}test_a_store_that_fails_is_told"),
    ),
    "T-040": Row(
        "the directory option goes before the directory of the start",
        (f"{_H}test_the_directory_option_goes_before_the_directory_of_the_start",),
    ),
    "T-046": Row(
        "so is an exit by a signal",
        (f"{_RETRY}test_an_early_exit_is_retried_once",),
    ),
    "T-050": Row(
        "another directory needs another handle",
        (f"{_CONTROLS}test_another_directory_reopens_the_session",),
        "D-13: the old one is closed",
    ),
    "T-059": Row("the stored agent names the runtime", (f"{_H}test_the_stored_agent_names_the_runtime",)),
    "T-062": Row(
        "tolerated failures of a close, as a table",
        (f"{_CLOSE}test_a_close_that_fails_is_raised_or_reported",),
    ),
    # -- parts ----------------------------------------------------------------
    "T-074": Row("use makes an entry young again", ("tests/test_cache.py::test_a_touch_makes_an_entry_young_again",)),
    "T-075": Row("entries know for how long they were idle", (f"{_H}test_an_entry_knows_for_how_long_it_was_idle",)),
    "T-082": Row(
        "foreign errors keep their words and get a code",
        (f"{_T}test_an_error_of_an_adapter_keeps_its_words_and_its_cause",),
    ),
    "T-083": Row(
        "errors of ours pass as they are",
        (f"{_MANAGER}test_another_refusal_is_told", "tests/test_turn_retry.py::test_a_second_failure_is_final"),
    ),
    "T-098": Row(
        "an error tells its code",
        (
            "tests/test_cli_output.py::test_json_of_outcomes",
            "tests/test_cli_output.py::test_exit_codes_of_errors",
        ),
        "design: no advice to type another product's commands; `code`, `detail` and the exit code tell what to do",
    ),
    "T-099": Row(
        "errors are shown in one form",
        (
            "tests/test_cli_output.py::test_json_of_outcomes",
            "tests/test_cli_output.py::test_what_ends_a_command_is_one_line",
        ),
        "design: the form is ours",
    ),
    "T-100": Row(
        "runtimes are found by their names",
        (f"{_H}test_the_stored_agent_names_the_runtime", f"{_BACKENDS}test_names_are_trimmed_and_lower_cased"),
    ),
    "T-101": Row(
        "without a name the first healthy runtime is chosen",
        (
            f"{_BACKENDS}test_a_session_that_names_no_agent_gets_one",
            f"{_BACKENDS}test_a_manager_chooses_for_who_does_not",
        ),
        "design: the agent of the key goes first",
    ),
    "T-102": Row(
        "a runtime that is not there is a typed error",
        (f"{_MANAGER}test_wrong_arguments", f"{_H}test_runtimes_belong_to_their_manager"),
    ),
    "T-103": Row(
        "a runtime that is not healthy is a typed error",
        (f"{_BACKENDS}test_an_agent_that_is_named_must_be_there_and_healthy",),
    ),
    "T-104": Row(
        "what was not registered is not there",
        (f"{_H}test_runtimes_belong_to_their_manager",),
        "E-35: runtimes are given to a manager once, and stay for its life",
    ),
    "T-105": Row(
        "no registry is shared",
        (f"{_H}test_runtimes_belong_to_their_manager",),
        "E-35: the original shares one in the whole process; here each manager has its own",
    ),
    "T-106": Row(
        "ids that are not confirmed are told as such",
        (f"{_I}test_the_status_tells_whether_ids_are_confirmed",),
        "design: data of the status; how it is put to people is the program's",
    ),
    "T-107": Row(
        "the agent's own id is told once it is confirmed",
        (f"{_I}test_the_status_tells_whether_ids_are_confirmed",),
        "design: no advice to type another product's commands",
    ),
    "T-108": Row(
        "the same for every agent",
        (f"{_I}test_the_status_tells_whether_ids_are_confirmed",),
        "design: as T-107",
    ),
    "T-109": Row(
        "the status tells that ids are pending",
        (f"{_I}test_the_status_tells_whether_ids_are_confirmed",),
        "design: as data",
    ),
    "T-110": Row(
        "the status tells the directory in force",
        (f"{_H}test_the_directory_option_goes_before_the_directory_of_the_start",),
    ),
    "T-111": Row(
        "stored sessions are read from where they are kept",
        (f"{_H}test_a_manager_lists_what_its_own_store_has",),
        "E-35: a manager is given its store, and looks for none",
    ),
    # -- later ones -----------------------------------------------------------
    "T-038": Row(
        "a handle of another conversation than the stored one is replaced",
        (f"{_I}test_a_handle_of_another_conversation_than_the_stored_one_is_replaced",),
        "design: looked at when the session is started; metadata of a live session is its manager's own",
    ),
    "T-039": Row(
        "the session id is resumed, not the agent's own",
        (f"{_H}test_the_session_id_is_resumed_not_the_agents_own",),
        "design: refused; the protocol resumes by the session id, which the agent's own need not be",
    ),
    "T-041": Row(
        "stale ids go with the conversation that was lost",
        (f"{_H}test_a_conversation_that_is_lost_is_replaced_with_all_its_ids",),
    ),
    "T-048": Row(
        "sessions without an id to resume by are not reconciled",
        (f"{_I}test_a_restart_leaves_the_others_alone",),
    ),
    "T-049": Row(
        "what the handle learns in a turn is kept",
        (f"{_I}test_what_the_handle_learns_in_a_turn_is_kept",),
    ),
    "T-053": Row(
        "pieces of progress are joined as they are",
        (
            "tests/test_ledger.py::test_pieces_are_joined_as_they_are",
            f"{_LEDGER}test_a_turn_that_says_it_was_denied_is_blocked",
        ),
    ),
    "T-057": Row(
        "a timeout after some progress is a timeout",
        (
            f"{_T}test_a_turn_that_hangs_times_out_and_the_next_one_runs_on_the_same_handle",
            "tests/test_acp_turns.py::test_a_timed_out_turn_keeps_what_the_agent_had_said",
        ),
    ),
    "T-058": Row(
        "no timeout is too long for a timer", (f"{_T}test_a_timeout_longer_than_any_timer_does_not_pass_at_once",)
    ),
    "T-064": Row(
        "a queued turn whose caller gives up is no failure",
        (
            f"{_T}test_a_caller_that_gives_up_in_the_queue_leaves_it_at_once",
            f"{_CANCEL}test_a_user_stops_a_turn_in_the_queue",
        ),
        "E-17: the depth falls at once, not when the lane gets there",
    ),
    "T-128": Row("an answer of cancelled is no error", (f"{_T}test_an_answer_of_cancelled_is_no_error",)),
    "T-131": Row(
        "a turn without a terminal answer fails",
        (f"{_T}test_a_turn_without_a_terminal_answer_leaves_the_session_in_error",),
    ),
    "T-171": Row(
        "a reset gets through to a session whose `cancel` and `close` are stuck, and is not written over",
        (f"{_T}test_a_reset_gets_through_to_a_session_whose_agent_is_stuck",),
        "design: no separate force; every call has its budget, and late ends decide nothing",
    ),
    "T-172": Row(
        "a handle that comes late does not replace the fresh one",
        (
            f"{_H}test_a_handle_that_comes_late_does_not_replace_the_fresh_one",
            f"{_MANAGER}test_a_late_session_is_closed_never_adopted",
        ),
        "design: its caller gets `Stopped`; there is no generation to be superseded",
    ),
    "T-173": Row("a turn that was closed is not tried again", (f"{_T}test_a_turn_that_was_closed_is_not_tried_again",)),
    "T-174": Row(
        "a turn closed while options are told does not run",
        (f"{_T}test_close_while_a_turn_is_told_its_options_ends_it_without_a_prompt",),
    ),
    "T-187": Row(
        "a oneshot learns its ids before it is closed",
        (f"{_I}test_a_oneshot_learns_its_ids_before_it_is_closed",),
    ),
    "T-201": Row(
        "a status that hangs is given up and changes nothing",
        (f"{_I}test_a_status_that_hangs_after_a_turn_holds_up_nobody",),
    ),
    "T-211": Row(
        "a task that was begun is settled if nothing comes of the turn",
        (
            f"{_LEDGER}test_a_failed_setup_settles_the_task",
            f"{_LEDGER}test_a_session_that_cannot_be_read_has_no_task",
            f"{_LEDGER}test_a_withdrawn_turn_has_no_task",
        ),
        "design: none is begun before the metadata is read",
    ),
    "T-248": Row(
        "`cancel` stops what was admitted before it, and nothing else",
        (
            f"{_T}test_cancel_stops_what_was_admitted_before_it_and_nothing_else",
            f"{_CANCEL}test_a_user_cancel_waits_and_counts",
        ),
    ),
    "T-251": Row(
        "`cancel` waits for a turn that is being opened",
        (f"{_T}test_cancel_waits_until_a_turn_that_is_being_opened_has_settled",),
        "design: nothing was submitted, so the late handle is closed and not asked to stop",
    ),
    "T-252": Row(
        "a `cancel` that fails is not passed over",
        (f"{_T}test_a_backend_that_fails_to_stop_changes_no_outcome_and_loses_its_handle",),
        "design: the first cause decides the outcome; the failure makes the handle suspect",
    ),
    "T-255": Row(
        "who is cancelled or closed already admits nothing",
        (
            f"{_CANCEL}test_a_caller_that_is_already_cancelled_admits_nothing",
            f"{_QUEUE}test_a_closed_manager_admits_nothing",
        ),
    ),
    "T-256": Row(
        "a turn that is stopped before its prompt never sends it",
        (
            f"{_T}test_a_turn_that_is_stopped_before_its_prompt_never_sends_it",
            f"{_CONTROLS}test_a_cause_during_controls_submits_nothing",
        ),
    ),
    "T-257": Row(
        "leaving during an opening closes what comes late",
        (f"{_H}test_leaving_while_a_session_is_opened_closes_what_comes_late",),
        "design: the late handle is closed; nothing was submitted that could be cancelled",
    ),
    "T-260": Row(
        "a stale write does not reach the fresh session",
        (
            f"{_H}test_a_write_that_failed_never_comes_back_over_a_reset_session",
            f"{_CONTROLS}test_what_is_taken_back_does_not_undo_a_later_change",
        ),
    ),
    "T-261": Row(
        "a late status does not write over a session that began anew",
        (f"{_I}test_a_late_status_does_not_write_over_a_session_that_began_anew",),
    ),
}
