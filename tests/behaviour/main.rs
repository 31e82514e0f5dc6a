//! What a shard does, each behaviour over the kernel's TCP and over the simulated network.

mod bad_input;
mod batch;
mod batch_turns;
mod certificates;
mod client_auth;
mod compression;
mod early_data;
mod hand_off;
mod handshake;
mod limits;
mod proxy;
mod reload;
mod setup;
mod streams;

/// Makes each generic behaviour a test in either world.
macro_rules! behaviours {
    ($($module:ident: $($name:ident),* $(,)?;)*) => {
        mod over_tcp {
            $(mod $module {
                $(#[test] fn $name() { crate::$module::$name::<handfast_tests::world::TcpWorld>(); })*
            })*
        }
        mod over_the_simulator {
            $(mod $module {
                $(#[test] fn $name() { crate::$module::$name::<handfast_tests::world::SimWorld>(); })*
            })*
        }
    };
}

behaviours! {
    handshake:
        one_round_trip_and_the_protocol_is_known,
        every_version_and_group,
        a_ticket_resumes_in_its_own_domain_only,
        without_alpn_the_default_protocol_serves,
        a_callback_chooses_refuses_or_defers,
        a_panic_in_a_callback_ends_its_own_connection_only,
        hellos_of_one_turn_are_seen_together,
        a_turn_ends_with_what_later_ones_need,
        client_preference_and_fallback;
    batch:
        key_exchanges_of_one_turn_are_computed_together,
        signatures_of_one_turn_are_prepared_together,
        resumed_handshakes_are_computed_together_too,
        nothing_is_computed_for_another_group_another_version_or_a_retry,
        nothing_is_computed_where_another_version_or_a_refusal_is_foreseen,
        hellos_in_pieces_are_answered_from_a_batch,
        one_client_at_a_time_is_left_to_aws_lc,
        a_client_of_a_plain_provider_needs_no_batch;
    certificates:
        each_protocol_shows_its_own_certificate,
        names_and_algorithms_choose_the_identity;
    early_data:
        it_is_answered_before_the_clients_finished,
        a_replay_is_not_processed,
        more_than_was_allowed_is_refused,
        another_protocol_or_group_rejects_it_and_goes_on,
        a_client_that_never_finishes_meets_the_deadline,
        a_bad_finished_ends_the_connection_of_its_worker,
        kept_sessions_over_a_limit_are_forgotten,
        a_kept_session_stays_in_its_domain;
    hand_off:
        a_full_mailbox_pauses_accepting_until_there_is_room,
        a_mailbox_that_stays_full_resets_what_waited_too_long,
        a_mailbox_that_stays_full_is_no_matter_of_another,
        a_receiver_that_is_gone_is_counted_and_its_connections_reset;
    client_auth:
        modes_in_each_version,
        a_session_without_a_certificate_does_not_resume_where_one_is_required,
        other_client_cas_end_resumption,
        an_expired_certificate_does_not_resume,
        a_revoked_certificate_is_refused,
        names_of_the_client;
    compression:
        each_chain_is_compressed_once,
        too_many_identities_are_not_compressed;
    reload:
        another_certificate_is_shown,
        a_handshake_under_way_keeps_its_certificate_and_its_worker,
        protocols_come_and_go,
        limits_change,
        a_shard_that_may_hold_fewer_accepts_no_more,
        negotiated_connections_stay;
    bad_input:
        plain_http_is_told_so,
        random_bytes_are_refused,
        an_sslv2_hello_is_refused,
        a_hello_cut_at_every_byte_leaves_nothing,
        a_hello_of_single_bytes_is_answered,
        a_hello_that_never_ends_meets_the_deadline,
        a_hello_over_the_limit_is_refused,
        no_common_version,
        no_common_suite,
        no_common_group,
        no_common_protocol,
        a_client_that_vanishes_after_each_flight,
        a_client_that_resets_after_each_flight,
        a_bad_finished_is_refused,
        half_a_record_over_the_limit_is_refused,
        a_client_that_rejects_our_certificate;
    streams:
        bytes_go_both_ways,
        a_slow_reader_holds_the_writer_back,
        close_notify_is_answered,
        a_panic_ends_its_own_connection_only,
        a_half_closed_client_still_gets_its_answer,
        garbage_after_the_handshake_ends_the_connection,
        a_client_that_does_not_close_meets_the_wait,
        a_refused_client_that_stays_is_lingered_out,
        a_reader_that_pauses_gets_all_that_a_finished_worker_wrote,
        a_half_close_loses_nothing_that_a_finished_worker_wrote,
        a_waker_that_panics_ends_its_own_connection_only,
        a_worker_sleeps_spawns_and_hears_of_a_drain,
        a_drain_ends_when_the_last_connection_does;
    limits:
        with_enough_handshakes_under_way_new_connections_are_shed,
        the_last_quarter_of_handshakes_is_for_sources_with_none,
        trickling_clients_leave_at_their_deadline,
        a_source_that_connects_too_fast_is_reset,
        a_source_has_so_many_handshakes_and_connections,
        sources_beyond_those_remembered_are_forgotten,
        addresses_of_one_prefix_are_one_source,
        a_full_shard_and_a_full_turn_leave_connections_waiting,
        a_turn_reads_so_much_of_one_connection,
        a_sender_faster_than_its_budget_costs_one_look_a_turn,
        a_worker_that_does_not_read_is_not_read_for,
        a_worker_that_never_catches_up_costs_no_more_memory_with_time,
        a_reader_that_stopped_is_given_up,
        a_worker_that_left_waits_for_its_reader_so_long,
        a_connection_on_which_nothing_moves_is_ended,
        a_drain_resets_those_who_stay,
        a_drain_serves_those_who_wait_to_be_accepted,
        a_flood_of_key_updates_is_cut_off,
        empty_records_and_warnings_are_cut_off,
        half_a_message_after_the_handshake_is_kept_up_to_a_bound,
        honest_handshakes_complete_beside_a_flood;
    proxy:
        the_client_in_the_header_is_the_peer,
        a_selection_callback_sees_the_client_in_the_header,
        a_header_and_a_hello_in_pieces_are_read,
        only_listed_proxies_are_believed,
        a_broken_a_long_and_a_late_header_are_refused,
        a_header_that_trickles_meets_its_deadline,
        after_the_header_the_handshake_has_its_own_deadline,
        the_client_in_the_header_is_limited_and_not_the_proxy;
}
