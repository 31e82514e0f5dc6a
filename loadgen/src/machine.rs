//! Where a result was measured: a figure without its machine means nothing.

use std::fs;

/// CPU, cores, memory and kernel of this machine, in one line.
#[must_use]
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    of(&read("/proc/cpuinfo"), cores, &read("/proc/meminfo"), &read("/proc/sys/kernel/osrelease"))
}

/// The command line of this process, quoted where a shell needs it.
#[must_use]
pub fn command_line() -> String {
    let words = std::env::args_os().enumerate().map(|(i, word)| {
        let word = word.to_string_lossy().into_owned();
        // Where the binary lies is nobody's business.
        let word = if i == 0 { word.rsplit('/').next().unwrap_or_default().to_owned() } else { word };
        quoted(&word)
    });
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn of(cpuinfo: &str, cores: usize, meminfo: &str, kernel: &str) -> String {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = field(cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field(meminfo, "MemTotal").and_then(|t| t.split(' ').next()?.parse::<f64>().ok());
    let memory = memory.map_or_else(String::new, |kib| format!(", {:.1} GiB of memory", kib / 1024.0 / 1024.0));
    let kernel = match kernel.trim() {
        "" => std::env::consts::OS.to_owned(),
        kernel => format!("Linux {kernel}"),
    };
    format!("{cpu}, {cores} core{} to use{memory}, {kernel}", if cores == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_with_what_there_is() {
        let line = of("model name\t: Some CPU\n", 2, "MemTotal:        8388608 kB\n", "6.1.0\n");
        assert_eq!(line, "Some CPU, 2 cores to use, 8.0 GiB of memory, Linux 6.1.0");
        assert!(of("", 1, "", "").contains("1 core to use"));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            [quoted("a.example:443"), quoted("h2=7;x=3"), quoted("it's"), quoted("")],
            ["a.example:443", "'h2=7;x=3'", "'it'\\''s'", "''"]
        );
    }
}
