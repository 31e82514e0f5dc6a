//! Socket options that mio, socket2 and rustix do not offer.

#[cfg(target_os = "linux")]
mod linux {
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, u32);
}

/// Asks the kernel to report a new connection only with its first byte, or after `seconds`.
#[cfg(target_os = "linux")]
pub(super) fn set_defer_accept(fd: &impl std::os::fd::AsFd, seconds: u32) -> std::io::Result<()> {
    nix::sys::socket::setsockopt(fd, linux::DeferAccept, &seconds)?;
    Ok(())
}

/// Lets a bound source address share its ports between destinations.
#[cfg(target_os = "linux")]
pub(super) fn set_bind_address_no_port(fd: &impl std::os::fd::AsFd) -> std::io::Result<()> {
    nix::sys::socket::setsockopt(fd, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    Ok(())
}
