//! The kernels' twin under valgrind, with the secrets marked as undefined: memcheck then reports every branch and every
//! address that depends on one.

use core::arch::asm;
use std::process::Command;

use super::super::key_schedule;
use super::kernels::Kernels;
use super::p256::{Montgomery, Nonce, Scalar};
use super::x25519::Octets;

/// Set for the run under valgrind.
const MARK: &str = "HANDFAST_MARK_SECRETS";

/// Requests of memcheck.h: the tool's letters in the upper half.
const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;
const MAKE_MEM_DEFINED: usize = 0x4d43_0002;

/// A request to valgrind; nothing happens outside of it.
fn request<T>(request: usize, value: &mut T) {
    let arguments = [request, core::ptr::from_mut(value) as usize, size_of::<T>(), 0, 0, 0];
    // SAFETY: these instructions change nothing: the rotations of rdi add up to 128 bits. Valgrind knows them and reads
    // the arguments, which live until then; what it changes is its own record of which bytes are defined.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0_usize => _,
        );
    }
}

fn secret<T>(mut value: T) -> T {
    request(MAKE_MEM_UNDEFINED, &mut value);
    value
}

fn published<T>(mut value: T) -> T {
    request(MAKE_MEM_DEFINED, &mut value);
    value
}

fn scalar(byte: u8) -> Scalar {
    Scalar::new(&[byte; 32]).unwrap()
}

/// Under valgrind this is the measurement; elsewhere it is a test like any other.
#[test]
fn kernels_on_marked_secrets() {
    let kernels = Kernels::Portable;
    let secrets: Octets = core::array::from_fn(|lane| [[1, 0xff, 0x7f, 0x80, 0x55, 0xaa, 0x12, 0xed][lane]; 32]);
    let peers = [[9; 32]; 8];
    // The tables are made before: what goes into them is public.
    let (public, table) = (kernels.public(&secrets), kernels.presigning().unwrap().table);
    assert_eq!(published(kernels.public(&secret(secrets))), public);
    let agreed = kernels.agree(&secret(secrets), &peers);
    let expected = kernels.agree(&secrets, &peers);
    assert_eq!(published(*agreed), *expected);
    for (two, expected) in secrets.as_chunks::<2>().0.iter().zip(expected.as_chunks::<2>().0) {
        assert_eq!(published(*kernels.agree_two(&secret(*two), &[peers[0]; 2])), *expected);
    }

    let numbers: [Scalar; 8] = core::array::from_fn(|lane| scalar([1, 2, 0x7f, 0x80, 0x55, 0xaa, 0x12, 0xed][lane]));
    let key: Montgomery = scalar(0x55).to_montgomery();
    let sign = |nonces: [Nonce; 8], key: Montgomery| nonces.map(|nonce| (nonce.r(), nonce.s(&[7; 32], &key)));
    let signed = published(sign(Nonce::of(kernels, table, &secret(numbers)), secret(key)));
    let expected = sign(Nonce::of(kernels, table, &numbers), key);
    for ((r, s), (expected_r, expected_s)) in signed.iter().zip(&expected) {
        assert_eq!((r.to_bytes(), s.to_bytes()), (expected_r.to_bytes(), expected_s.to_bytes()));
    }
    // Without the instructions for SHA-256, which valgrind does not have: the crate's portable code.
    for hkdf in key_schedule::both() {
        let expanded = |secret: [u8; 32]| {
            let early = hkdf.extract_from_secret(None, &secret);
            let derived = early.expand_block(&[b"derived"]);
            let mut key = [0; 16];
            hkdf.expander_for_okm(&derived).expand_slice(&[b"key"], &mut key).unwrap();
            let verified = hkdf.hmac_sign(&derived, b"transcript");
            (key, <[u8; 32]>::try_from(&verified.as_ref()[..32]).unwrap())
        };
        assert_eq!(published(expanded(secret([0x5a; 32]))), expanded([0x5a; 32]));
    }
    if std::env::var(MARK).as_deref() == Ok("leak") {
        // What the check must notice.
        let lane = secret(5_usize);
        assert!(std::hint::black_box(&peers)[lane][0] == 9);
    }
}

#[test]
fn no_branch_and_no_address_depends_on_a_secret() {
    let run = |mark: &str| {
        Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=99", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--test-threads=1", "crypto::batch::constant_time::kernels_on_marked_secrets"])
            .env(MARK, mark)
            .output()
    };
    let output = match run("secrets") {
        Ok(output) => output,
        Err(e) if std::env::var_os("HANDFAST_PEERS").is_none_or(|v| v != "required") => {
            return eprintln!("skipped: valgrind does not run: {e}");
        }
        Err(e) => panic!("valgrind does not run: {e}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(run("leak").unwrap().status.code(), Some(99), "an address that depends on a secret was not noticed");
}
