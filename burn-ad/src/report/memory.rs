//! How much memory this process has needed.

/// Peak resident memory of this process in bytes (`VmHWM` of Linux); `None` on other systems.
pub fn peak_resident_bytes() -> Option<u64> {
    if cfg!(target_os = "linux") {
        parse_high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
    } else {
        None
    }
}

/// Lets the peak begin anew at what is resident now; whether the system can do that (Linux can).
pub fn reset_peak() -> bool {
    // 5 sets VmHWM back, see proc_pid_clear_refs(5).
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn parse_high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(parse_high_water_mark(status), Some(12_345 * 1024));
        assert_eq!(parse_high_water_mark("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_once_touched_stays_in_the_peak() {
        let before = peak_resident_bytes().expect("Linux reports it");
        let touched = vec![1u8; before as usize + (32 << 20)];
        drop(std::hint::black_box(touched));
        let after = peak_resident_bytes().expect("Linux reports it");
        assert!(after >= before + (32 << 20), "{before} -> {after}");
        // Not every sandbox allows it; where it works, the peak forgets.
        if reset_peak() {
            let now = peak_resident_bytes().expect("Linux reports it");
            assert!(now < after, "{after} -> {now}");
        }
    }
}
