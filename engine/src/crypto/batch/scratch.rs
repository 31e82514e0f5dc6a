#![allow(dead_code)]
mod lanes; mod digits; mod edwards; mod field25519; mod x25519; mod ifma;
use std::time::Instant;
pub fn main() {
    use aws_lc_rs::{agreement as aw, rand};
    let k = ifma::Ifma::detect().unwrap();
    let t = Instant::now(); let table = k.table(); println!("table {:?}", t.elapsed());
    let t = Instant::now(); let pt = edwards::Table::compute::<lanes::Portable>(); println!("portable table {:?}", t.elapsed());
    for round in 0..200 {
        let mut sk = [[0u8; 32]; 8]; let mut pk = [[0u8; 32]; 8];
        rand::fill(sk.as_flattened_mut()).unwrap(); rand::fill(pk.as_flattened_mut()).unwrap();
        let a = k.agree(&sk, &pk); let p = k.public(&sk, &table);
        if round < 20 { assert_eq!(*a, *x25519::agree::<lanes::Portable>(&sk, &pk)); assert_eq!(p, x25519::public::<lanes::Portable>(&sk, &pt)); }
        for i in 0..8 {
            let key = aw::PrivateKey::from_private_key(&aw::X25519, &sk[i]).unwrap();
            assert_eq!(key.compute_public_key().unwrap().as_ref(), p[i]);
            let s = aw::agree(&key, aw::UnparsedPublicKey::new(&aw::X25519, &pk[i]), (), |s| Ok(s.to_vec())).unwrap();
            assert_eq!(s, a[i]);
        }
    }
    println!("ok");
    let mut sk = [[7u8; 32]; 8]; let pk = [[9u8; 32]; 8];
    for _ in 0..3 {
        let t = Instant::now(); for _ in 0..2000 { sk = *k.agree(&sk, &pk); } println!("agree x8 {:.2} us", t.elapsed().as_secs_f64() * 1e6 / 2000.);
        let t = Instant::now(); for _ in 0..2000 { sk = k.public(&sk, &table); } println!("public x8 {:.2} us", t.elapsed().as_secs_f64() * 1e6 / 2000.);
        let t = Instant::now(); for _ in 0..2000 { let rng = aws_lc_rs::rand::SystemRandom::new(); let key = aw::EphemeralPrivateKey::generate(&aw::X25519, &rng).unwrap(); std::hint::black_box(key.compute_public_key().unwrap()); } println!("aws public {:.2} us", t.elapsed().as_secs_f64() * 1e6 / 2000.);
        let key = aw::PrivateKey::from_private_key(&aw::X25519, &sk[0]).unwrap();
        let t = Instant::now(); for _ in 0..2000 { aw::agree(&key, aw::UnparsedPublicKey::new(&aw::X25519, &pk[0]), (), |s| Ok(std::hint::black_box(s[0]))).unwrap(); } println!("aws agree {:.2} us", t.elapsed().as_secs_f64() * 1e6 / 2000.);
    }
}
