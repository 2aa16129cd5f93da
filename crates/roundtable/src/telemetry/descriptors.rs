//! How many file descriptors this process has open, and how many it may.

/// The share in use, 0–100. 0 where the system does not tell.
pub fn used_percent() -> f64 {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let share = limit(&limits).map_or(0.0, |most| open as f64 * 100.0 / most as f64);
    share.clamp(0.0, 100.0)
}

/// The limit in force; `None` without one.
fn limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok().filter(|most| *most > 0)
}

#[cfg(test)]
mod tests {
    use super::{limit, used_percent};

    #[test]
    fn the_soft_limit_counts() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(limit(text), Some(1024));
        assert_eq!(limit("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(limit(""), None);
    }

    #[test]
    fn an_open_file_is_counted() {
        assert!(used_percent() > 0.0, "the test itself has some open");
    }
}
