//! The kernels against RFC 7748, Wycheproof's vectors and aws-lc; the pool and the stash by what they promise.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::rand;
use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use wycheproof::TestResult;

use super::kernels::{Kernels, RFC_7748_ALICE, RFC_7748_BOB, RFC_7748_PRODUCT, hex};
use super::turn::{Installed, Turn};
use super::x25519::Octets;
use super::{groups, turn};
use crate::time::Instant64;

/// The twin, and the CPU's own where it has them.
fn all_kernels() -> Vec<Kernels> {
    [Kernels::Portable].into_iter().chain(Kernels::of_this_cpu()).collect()
}

fn octets(of: impl Fn(usize) -> [u8; 32]) -> Octets {
    core::array::from_fn(of)
}

fn random() -> Octets {
    let mut octets = [[0; 32]; 8];
    rand::fill(octets.as_flattened_mut()).unwrap();
    octets
}

/// aws-lc's public key and shared secret; `None` for a point of low order.
fn reference(secret: &[u8; 32], peer: &[u8; 32]) -> ([u8; 32], Option<[u8; 32]>) {
    let key = PrivateKey::from_private_key(&X25519, secret).unwrap();
    let public = key.compute_public_key().unwrap().as_ref().try_into().unwrap();
    let shared = agree(&key, UnparsedPublicKey::new(&X25519, peer), (), |s| Ok(s.try_into().unwrap()));
    (public, shared.ok())
}

/// What all kernels for key agreement say: that for eight, and that for two, of neighbours and the other way around.
fn agreed(kernels: Kernels, secrets: &Octets, peers: &Octets) -> Octets {
    let shared = *kernels.agree(secrets, peers);
    for one in 0..8 {
        let two = |of: &Octets| [of[one], of[one ^ 1]];
        assert_eq!(*kernels.agree_two(&two(secrets), &two(peers)), two(&shared), "{kernels:?}, lane {one}");
    }
    shared
}

fn assert_agrees_with_aws_lc(kernels: Kernels, secrets: &Octets, peers: &Octets) {
    let (public, shared) = (kernels.public(secrets), agreed(kernels, secrets, peers));
    for lane in 0..8 {
        let (expected, agreed) = reference(&secrets[lane], &peers[lane]);
        assert_eq!(public[lane], expected, "public key of {:?}", secrets[lane]);
        assert_eq!(shared[lane], agreed.unwrap_or_default(), "{:?} with {:?}", secrets[lane], peers[lane]);
    }
}

#[test]
fn rfc_7748_vectors_in_every_lane() {
    let second = (
        hex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
        hex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
        hex("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
    );
    for kernels in all_kernels() {
        for lane in 0..8 {
            let chosen = |l| if l == lane { second } else { RFC_7748_PRODUCT };
            let shared = agreed(kernels, &octets(|l| chosen(l).0), &octets(|l| chosen(l).1));
            assert_eq!(shared, octets(|l| chosen(l).2), "{kernels:?}, lane {lane}");
        }
        assert_eq!(kernels.public(&[RFC_7748_ALICE.0; 8]), [RFC_7748_ALICE.1; 8]);
        assert_eq!(kernels.public(&[RFC_7748_BOB.0; 8]), [RFC_7748_BOB.1; 8]);
    }
}

#[test]
fn rfc_7748_iterations() {
    for kernels in all_kernels() {
        let full = std::env::var_os("HANDFAST_FULL").is_some() && !matches!(kernels, Kernels::Portable);
        let (mut k, mut u) = (hex(NINE), hex(NINE));
        for i in 1..=if full { 1_000_000 } else { 1000 } {
            let product = kernels.agree(&[k; 8], &[u; 8])[i % 8];
            assert_eq!(*kernels.agree_two(&[k; 2], &[u; 2]), [product; 2]);
            (k, u) = (product, k);
            let expected = match i {
                1 => "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
                1000 => "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
                1_000_000 => "7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424",
                _ => continue,
            };
            assert_eq!(k, hex(expected), "{kernels:?} after {i}");
        }
    }
}

const NINE: &str = "0900000000000000000000000000000000000000000000000000000000000000";

#[test]
fn wycheproof_vectors() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|g| &g.tests).collect();
    assert!(tests.len() > 500, "{} vectors", tests.len());
    let fixed = |bytes: &[u8]| <[u8; 32]>::try_from(bytes);
    for kernels in all_kernels() {
        for tests in tests.chunks(8) {
            // The last lanes of a chunk that is not full compute the first vector again.
            let of = |lane: usize| tests.get(lane).unwrap_or(&tests[0]);
            let secrets = octets(|l| fixed(&of(l).private_key).unwrap());
            let peers = octets(|l| fixed(&of(l).public_key).unwrap());
            let shared = agreed(kernels, &secrets, &peers);
            for (lane, test) in tests.iter().enumerate() {
                assert!(test.result != TestResult::Invalid || test.shared_secret.iter().all(|b| *b == 0));
                assert_eq!(shared[lane], test.shared_secret[..], "{kernels:?}, vector {}", test.tc_id);
            }
        }
    }
}

/// Points of order 1, 2, 4 and 8, on the curve and on its twist, with numbers beyond the modulus and the ignored bit.
fn awkward_points() -> Vec<[u8; 32]> {
    let mut points: Vec<[u8; 32]> = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
    .into_iter()
    .map(hex)
    .collect();
    for i in 0..points.len() {
        let mut with_bit = points[i];
        with_bit[31] |= 0x80;
        points.push(with_bit);
    }
    points
}

#[test]
fn low_order_and_unreduced_points_come_out_as_aws_lc_has_them() {
    let points = awkward_points();
    for kernels in all_kernels() {
        for (i, point) in points.iter().enumerate() {
            // The awkward point is in one lane; the others must not notice.
            let mut peers = random();
            peers[i % 8] = *point;
            assert_agrees_with_aws_lc(kernels, &random(), &peers);
        }
    }
    assert_eq!(reference(&[1; 32], &points[1]).1, None);
}

#[test]
fn extreme_secrets_come_out_as_aws_lc_has_them() {
    for kernels in all_kernels() {
        for secrets in [
            [[0; 32]; 8],
            [[0xff; 32]; 8],
            octets(|l| [1 << l; 32]),
            octets(|l| [[3, 50, 77, 104, 131, 158, 185, 251][l]; 32]),
        ] {
            assert_agrees_with_aws_lc(kernels, &secrets, &random());
        }
    }
}

#[test]
fn random_lanes_come_out_as_aws_lc_has_them() {
    let full = std::env::var_os("HANDFAST_FULL").is_some();
    for kernels in all_kernels() {
        let lanes = match kernels {
            Kernels::Portable => 2_000,
            _ if full => 10_000_000,
            _ => 40_000,
        };
        for _ in 0..lanes / 8 {
            assert_agrees_with_aws_lc(kernels, &random(), &random());
        }
    }
}

/// With a full pool, as before a shard's first turn.
fn turn_of(kernels: Kernels) -> Box<Turn> {
    let mut turn = Turn::new(kernels, None).unwrap();
    turn.refill(Instant64::ZERO);
    assert_eq!((turn.pooled(), turn.counters().refills), (POOLED, 32));
    Box::new(turn)
}

/// Key pairs in a pool that was just filled.
const POOLED: usize = 256;

/// Seconds since the start.
fn at(seconds: u64) -> Instant64 {
    Instant64::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn equal_shares_of_one_turn_get_keys_of_their_own() {
    let (secret, share) = RFC_7748_ALICE;
    let mut turn = turn_of(Kernels::Portable);
    turn.agree(&[share, RFC_7748_BOB.1, share], Instant64::ZERO);
    let installed = Installed::new(turn).unwrap();
    let first = groups::X25519.start_and_complete(&share).unwrap();
    let second = groups::X25519.start_and_complete(&share).unwrap();
    assert_ne!(first.pub_key, second.pub_key);
    for answer in [first, second] {
        let expected = reference(&secret, answer.pub_key.as_slice().try_into().unwrap()).1.unwrap();
        assert_eq!(answer.secret.secret_bytes(), expected);
    }
    // Each result is used once: now there is a miss, which aws-lc answers.
    let third = groups::X25519.start_and_complete(&share).unwrap();
    let expected = reference(&secret, third.pub_key.as_slice().try_into().unwrap()).1.unwrap();
    assert_eq!(third.secret.secret_bytes(), expected);
    let counters = installed.take_back().unwrap().counters();
    assert_eq!((counters.batches, counters.lanes, counters.misses, counters.scalar), (1, 3, 1, 0));
}

#[test]
fn the_hybrid_takes_its_x25519_half_from_the_stash() {
    let client = kx_group::X25519MLKEM768.start().unwrap();
    let share = groups::x25519_share(NamedGroup::X25519MLKEM768, client.pub_key()).unwrap();
    let mut turn = turn_of(Kernels::Portable);
    turn.agree(&[*share, RFC_7748_ALICE.1], Instant64::ZERO);
    let installed = Installed::new(turn).unwrap();
    let answer = groups::X25519MLKEM768.start_and_complete(client.pub_key()).unwrap();
    let shared = client.complete(&answer.pub_key).unwrap();
    assert_eq!(shared.secret_bytes(), answer.secret.secret_bytes());
    let counters = installed.take_back().unwrap().counters();
    assert_eq!((counters.lanes, counters.misses), (2, 0));
}

#[test]
fn a_share_of_low_order_is_refused_and_a_short_one_too() {
    let points = awkward_points();
    let mut turn = turn_of(Kernels::Portable);
    turn.agree(&points[..3], Instant64::ZERO);
    let installed = Installed::new(turn).unwrap();
    for point in &points[..3] {
        assert!(groups::X25519.start_and_complete(point).is_err());
    }
    assert!(groups::X25519.start_and_complete(&[9; 31]).is_err());
    assert!(groups::X25519MLKEM768.start_and_complete(&[9; 32]).is_err());
    assert_eq!(installed.take_back().unwrap().counters().misses, 0);
}

#[test]
fn however_many_shares_there_are_each_is_answered_as_its_client_computes() {
    for kernels in all_kernels() {
        for (at, number) in [1, 2, 3, 8, 9, 10].into_iter().enumerate() {
            let mut turn = turn_of(kernels);
            let clients: Vec<_> = (0..number).map(|_| kx_group::X25519.start().unwrap()).collect();
            let shares: Vec<_> = clients.iter().map(|client| client.pub_key().try_into().unwrap()).collect();
            turn.agree(&shares, Instant64::ZERO);
            let installed = Installed::new(turn).unwrap();
            for client in clients {
                let answer = groups::X25519.start_and_complete(client.pub_key()).unwrap();
                let shared = client.complete(&answer.pub_key).unwrap();
                assert_eq!(shared.secret_bytes(), answer.secret.secret_bytes(), "{kernels:?}, {number}");
            }
            let counters = installed.take_back().unwrap().counters();
            // One that is alone is left to aws-lc.
            let (batches, scalar) = [(0, 1), (1, 0), (1, 0), (1, 0), (1, 1), (2, 0)][at];
            let lanes = number - scalar;
            assert_eq!((counters.batches, counters.lanes), (batches, lanes), "{number}");
            assert_eq!((counters.misses, counters.scalar), (0, scalar), "{number}");
        }
    }
}

#[test]
fn more_than_the_stash_holds_are_left_to_aws_lc() {
    let mut turn = turn_of(Kernels::Portable);
    let many = vec![RFC_7748_ALICE.1; 300];
    turn.agree(&many, Instant64::ZERO);
    assert_eq!((turn.counters().lanes, turn.counters().scalar), (256, 44));
}

#[test]
fn no_key_pair_is_made_while_answers_wait() {
    let share = RFC_7748_ALICE.1;
    let mut turn = Turn::new(Kernels::Portable, None).unwrap();
    turn.agree(&[share; 8], Instant64::ZERO);
    assert_eq!((turn.counters().refills, turn.counters().scalar), (0, 8));
    turn.wipe();
    turn.refill(Instant64::ZERO);
    let made = turn.counters().refills;
    // The most that one batch may take, and then what one more finds that comes before the pool is filled up.
    turn.agree(&[share; 250], Instant64::ZERO);
    turn.wipe();
    turn.agree(&[share; 12], Instant64::ZERO);
    turn.wipe();
    let counters = turn.counters();
    assert_eq!((counters.refills, counters.lanes, counters.scalar), (made, 256, 8 + 6));
    turn.refill(Instant64::ZERO);
    assert_eq!((turn.pooled(), turn.counters().refills), (POOLED, 2 * made));
}

#[test]
fn nothing_is_found_after_the_turn_or_by_another_one() {
    let share = RFC_7748_ALICE.1;
    let mut turn = turn_of(Kernels::Portable);
    turn.agree(&[share; 2], Instant64::ZERO);
    let installed = Installed::new(turn).unwrap();
    let other = Installed::new(turn_of(Kernels::Portable)).unwrap_err();
    let turn = installed.take_back().unwrap();
    assert!(turn::take(&share).is_none());
    for turn in [turn, other] {
        let installed = Installed::new(turn).unwrap();
        assert!(turn::take(&share).is_none());
        drop(installed);
        assert!(turn::take(&share).is_none());
    }
}

#[test]
fn a_pool_has_a_key_pair_for_each_of_the_most_agreements_once_it_is_filled() {
    let mut turn = turn_of(Kernels::Portable);
    for used in 1..=9 {
        turn.agree(&[RFC_7748_ALICE.1; 9][..used], Instant64::ZERO);
        turn.wipe();
        turn.refill(Instant64::ZERO);
        assert!((POOLED..POOLED + 8).contains(&turn.pooled()), "{}", turn.pooled());
    }
}

#[test]
fn the_pool_does_not_grow_old() {
    let mut turn = turn_of(Kernels::Portable);
    turn.refill(at(49));
    assert_eq!((turn.counters().refills, turn.renews_at()), (32, Some(at(50))));
    // In time for no turn to find it too old.
    turn.refill(at(50));
    assert_eq!((turn.counters().refills, turn.renews_at()), (64, Some(at(100))));
    turn.agree(&[RFC_7748_ALICE.1; 8], at(109));
    assert_eq!((turn.pooled(), turn.counters().lanes), (POOLED - 8, 8));
    // And none uses one that is.
    turn.agree(&[RFC_7748_ALICE.1; 8], at(110));
    assert_eq!((turn.pooled(), turn.leftovers(), turn.counters().scalar), (0, 0, 8));
    assert_eq!((turn.counters().refills, turn.renews_at()), (64, None));
    turn.refill(at(110));
    assert_eq!((turn.pooled(), turn.counters().refills), (POOLED, 96));
    // A client, for whom nobody waits, has eight made.
    turn.take_pair(at(170)).unwrap();
    assert_eq!((turn.pooled(), turn.counters().refills), (7, 97));
}

#[test]
fn what_was_used_or_is_over_is_wiped() {
    let share = RFC_7748_ALICE.1;
    let mut turn = turn_of(Kernels::Portable);
    assert_eq!(turn.leftovers(), 0);
    turn.agree(&[share; 9], Instant64::ZERO);
    assert_eq!((turn.pooled(), turn.leftovers()), (POOLED - 8, 0));
    let installed = Installed::new(turn).unwrap();
    for _ in 0..2 {
        groups::X25519.start_and_complete(&share).unwrap();
    }
    // At once, and not only as the turn ends.
    assert_eq!(installed.leftovers(), 0);
    let mut turn = installed.take_back().unwrap();
    assert_eq!((turn.counters().lanes, turn.counters().misses, turn.leftovers()), (8, 0, 0));
    drop(turn.take_pair(Instant64::ZERO).unwrap());
    turn.forget();
    assert_eq!((turn.pooled(), turn.leftovers()), (0, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn secrets_are_locked_undumped_and_gone_in_a_forked_child() {
    let turn = turn_of(Kernels::Portable);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut ours = false;
    let flags = maps.lines().find_map(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        if let Some((Ok(from), Ok(to))) = range {
            ours = (from..to).contains(&turn.address());
        }
        line.strip_prefix("VmFlags: ").filter(|_| ours)
    });
    let flags: Vec<&str> = flags.expect("a kernel that says").split_whitespace().collect();
    assert!(flags.contains(&"wf") && flags.contains(&"dd"), "{flags:?}");
    // How much a process may lock is its user's matter.
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap();
    if soft < 1 << 20 {
        return eprintln!("skipped: locked memory, of which there may be {soft} bytes");
    }
    assert!(flags.contains(&"lo"), "{flags:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_has_an_empty_pool_and_draws_keys_of_its_own() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    let mut turn = turn_of(Kernels::Portable);
    let mut child = || match turn.pooled() {
        0 => turn.take_pair(Instant64::ZERO).map(|ours| *ours.public()),
        _ => None,
    };
    let (mut read, mut write) = std::io::pipe().unwrap();
    // SAFETY: the child reads memory of its own, draws randomness, writes into a pipe and ends; it takes no lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let written = child().is_some_and(|public| std::io::Write::write_all(&mut write, &public).is_ok());
            // SAFETY: as above.
            unsafe { nix::libc::_exit(i32::from(!written)) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            let mut theirs = [0; 32];
            std::io::Read::read_exact(&mut read, &mut theirs).unwrap();
            assert_eq!(turn.pooled(), POOLED);
            for _ in 0..POOLED {
                assert_ne!(*turn.take_pair(Instant64::ZERO).unwrap().public(), theirs);
            }
        }
    }
}

mod signing {
    use aws_lc_rs::digest::{Digest, SHA256, digest};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use rcgen::PublicKeyData;
    use rustls::SignatureScheme;
    use rustls::crypto::KeyProvider;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::super::kernels::Kernels;
    use super::super::p256::{Montgomery, Nonce, Scalar};
    use super::super::signer::Keys;
    use super::super::turn::{Installed, Turn};
    use super::all_kernels;

    fn scalar(low: u8) -> Scalar {
        let mut bytes = [0; 32];
        bytes[31] = low;
        Scalar::new(&bytes).unwrap()
    }

    /// n less `less`.
    fn below_the_order(less: u8) -> Scalar {
        let mut n = super::hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
        n[31] -= less;
        Scalar::new(&n).unwrap()
    }

    #[test]
    fn a_nonce_and_its_negative_have_one_r_that_aws_lc_knows() {
        use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
        for kernels in all_kernels() {
            let table = kernels.presigning().unwrap().table;
            let numbers = [1, 2, 3, 31, 32, 33, 64, 81];
            let nonces = Nonce::of(kernels, table, &numbers.map(scalar));
            let negatives = Nonce::of(kernels, table, &numbers.map(below_the_order));
            for (number, (nonce, negative)) in numbers.into_iter().zip(nonces.iter().zip(&negatives)) {
                let key = PrivateKey::from_private_key(&ECDH_P256, &scalar(number).to_bytes()).unwrap();
                let x = &key.compute_public_key().unwrap().as_ref()[1..33].to_vec();
                assert_eq!(nonce.r().to_bytes(), Scalar::reduced(x[..].try_into().unwrap()).to_bytes(), "{number}");
                assert_eq!(nonce.r().to_bytes(), negative.r().to_bytes(), "{number}");
            }
        }
    }

    #[test]
    fn the_nonce_that_the_comb_cannot_multiply_has_no_valid_r() {
        // 2^256 - n, at whose last place a point would be added to itself.
        let exception = super::hex("00000000ffffffff00000000000000004319055258e8617b0c46353d039cdaaf");
        for kernels in all_kernels() {
            let table = kernels.presigning().unwrap().table;
            let nonces = Nonce::of(kernels, table, &[Scalar::new(&exception).unwrap(); 8]);
            assert!(nonces.iter().all(|nonce| nonce.r().is_zero()));
        }
    }

    fn key() -> (rcgen::KeyPair, Montgomery) {
        use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
        let pair = rcgen::KeyPair::generate().unwrap();
        let ours = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pair.serialize_der()).unwrap();
        let scalar: EcPrivateKeyBin<'_> = ours.private_key().as_be_bytes().unwrap();
        let scalar = Scalar::new(scalar.as_ref().try_into().unwrap()).unwrap().to_montgomery();
        (pair, scalar)
    }

    #[test]
    fn aws_lc_verifies_every_signature() {
        let full = std::env::var_os("HANDFAST_FULL").is_some();
        for kernels in all_kernels() {
            let table = kernels.presigning().unwrap().table;
            let rounds = match kernels {
                Kernels::Portable => 20,
                _ if full => 100_000,
                _ => 1_000,
            };
            let (pair, scalar) = key();
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
            for round in 0..rounds {
                let message = i32::to_be_bytes(round);
                let digest = digest(&SHA256, &message);
                for nonce in Nonce::draw(kernels, table).unwrap() {
                    let signature = nonce.sign(digest.as_ref().try_into().unwrap(), &scalar).unwrap();
                    public.verify(&message, &signature).expect("a valid signature");
                }
            }
        }
    }

    #[test]
    fn a_loaded_key_signs_with_nonces_while_there_are_some() {
        let (pair, _) = key();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let loaded = Keys.load_private_key(der).unwrap();
        assert!(loaded.public_key().is_some());
        let schemes = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
        let kernels = Kernels::Portable;
        let mut turn = Turn::new(kernels, Some(kernels.presigning().unwrap())).unwrap();
        turn.presign(2);
        assert_eq!(turn.counters().nonces, 0);
        turn.presign(5);
        let installed = Installed::new(Box::new(turn)).unwrap();
        for _ in 0..7 {
            let signer = loaded.choose_scheme(&schemes).unwrap();
            public.verify(b"message", &signer.sign(b"message").unwrap()).expect("a valid signature");
        }
        let mut turn = installed.take_back().unwrap();
        assert_eq!((turn.counters().nonces, turn.counters().presigned, turn.leftovers()), (5, 5, 0));
        // What a turn leaves over is gone.
        turn.presign(8);
        let turn = Installed::new(turn).unwrap().take_back().unwrap();
        assert_eq!(turn.leftovers(), 0);
        let installed = Installed::new(turn).unwrap();
        assert!(super::turn::take_nonce().is_none());
        drop(installed);
    }

    #[test]
    fn no_two_signatures_have_one_nonce() {
        let (pair, _) = key();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let loaded = Keys.load_private_key(der).unwrap();
        let signer = loaded.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        for kernels in all_kernels() {
            let mut turn = Box::new(Turn::new(kernels, Some(kernels.presigning().unwrap())).unwrap());
            let mut seen = std::collections::HashSet::new();
            for _ in 0..3 {
                turn.presign(19);
                let installed = Installed::new(turn).unwrap();
                // Not all of them, so that some are left for the next turn, which must not have them.
                for _ in 0..17 {
                    let signature = signer.sign(b"message").unwrap();
                    public.verify(b"message", &signature).expect("a valid signature");
                    // r, which one nonce always gives.
                    assert!(seen.insert(signature[4..][..usize::from(signature[3])].to_vec()), "{kernels:?}");
                }
                turn = installed.take_back().unwrap();
            }
            assert_eq!((turn.counters().nonces, turn.counters().presigned), (57, 51));
        }
    }

    /// Wycheproof has vectors for verifiers of ECDSA, and there is none here: their signatures have nothing to test. What
    /// is signed are their messages, many of which have digests with special values.
    #[test]
    fn wycheproof_messages_are_signed_and_verified() {
        let set = wycheproof::ecdsa::TestSet::load(wycheproof::ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
        let (pair, scalar) = key();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
        let messages: Vec<_> = set.test_groups.iter().flat_map(|g| &g.tests).map(|test| &test.msg).collect();
        assert!(messages.len() > 100);
        let kernels = all_kernels().pop().unwrap();
        let table = kernels.presigning().unwrap().table;
        for messages in messages.chunks(8) {
            for (message, nonce) in messages.iter().zip(Nonce::draw(kernels, table).unwrap()) {
                let digest = digest(&SHA256, message);
                let signature = nonce.sign(digest.as_ref().try_into().unwrap(), &scalar).unwrap();
                public.verify(message, &signature).expect("a valid signature");
            }
        }
    }

    #[test]
    fn extreme_digests_are_signed_as_their_remainder() {
        let (pair, scalar) = key();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes());
        let n_minus_1 = below_the_order(1).to_bytes();
        let n_plus_1 = super::hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552");
        for kernels in all_kernels() {
            let table = kernels.presigning().unwrap().table;
            let sign = |digest: &[u8; 32]| {
                let [nonce, ..] = Nonce::of(kernels, table, &[7; 8].map(super::signing::scalar));
                let signature = nonce.sign(digest, &scalar).unwrap();
                let imported = Digest::import_less_safe(digest, &SHA256).unwrap();
                public.verify_digest(&imported, &signature).expect("a valid signature");
                signature
            };
            // The order plus one is one; the largest digest is it less the order.
            assert_eq!(sign(&n_plus_1), sign(&super::signing::scalar(1).to_bytes()));
            let others = [[0; 32], [0xff; 32], n_minus_1].map(|digest| sign(&digest));
            assert!(others[0] != others[1] && others[1] != others[2]);
        }
    }
}
