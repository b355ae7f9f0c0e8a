//! Unix seconds as a person reads them: `2026-11-22 18:40 UTC`, by the Gregorian calendar.

/// To the minute.
pub(crate) fn utc(seconds: u64) -> String {
    let (day, within) = (seconds / 86_400, seconds % 86_400);
    let (year, month, date) = civil(day);
    format!("{year:04}-{month:02}-{date:02} {:02}:{:02} UTC", within / 3600, within % 3600 / 60)
}

/// Year, month and day of the month, counted month by month from 1970.
fn civil(mut day: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole periods of 400 years all have the same length.
    let mut year = 1970 + day / 146_097 * 400;
    day %= 146_097;
    while day >= if leap(year) { 366 } else { 365 } {
        day -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if day < length {
            break;
        }
        day -= length;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_000_000_000, "2001-09-09 01:46 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
