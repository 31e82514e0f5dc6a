//! What a shard does, each behaviour over the kernel's TCP and over the simulated network.

mod bad_input;
mod certificates;
mod client_auth;
mod compression;
mod hand_off;
mod handshake;
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
        client_preference_and_fallback;
    certificates:
        each_protocol_shows_its_own_certificate,
        names_and_algorithms_choose_the_identity;
    client_auth:
        modes_in_each_version,
        a_session_without_a_certificate_does_not_resume_where_one_is_required,
        other_client_cas_end_resumption,
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
        a_worker_sleeps_spawns_and_hears_of_a_drain,
        a_drain_ends_when_the_last_connection_does;
}
