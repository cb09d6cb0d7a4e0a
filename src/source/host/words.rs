//! Sizes for people.

/// A size in KiB, for people.
pub fn kib(count: u64) -> String {
    bytes(count.saturating_mul(1024))
}

/// A size for people, in the unit in which it has one to four digits.
pub fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 10.0 && unit != "bytes" { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (20 << 30, "20 GiB"), (u64::MAX, "16777216 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
