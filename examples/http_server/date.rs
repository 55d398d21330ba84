//! The `Date` of a response, such as `Sun, 06 Nov 1994 08:49:37 GMT`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const LENGTH: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// The date as text. The clock is read once for the responses that are sent at once, and the text is
/// made once a second.
#[derive(Default)]
pub(crate) struct Date {
    text: [u8; LENGTH],
    /// What second of the Unix time the text is of.
    second: Option<u64>,
    is_current: bool,
}

impl Date {
    /// What was said before is no longer true.
    pub(crate) fn forget(&mut self) {
        self.is_current = false;
    }

    pub(crate) fn text(&mut self) -> &str {
        if !self.is_current {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            if self.second != Some(now) {
                self.text = format(now);
                self.second = Some(now);
            }
            self.is_current = true;
        }
        str::from_utf8(&self.text).expect("dates are ASCII")
    }
}

fn format(second: u64) -> [u8; LENGTH] {
    let (days, second) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil(days);
    let mut text = [0; LENGTH];
    write!(
        &mut text[..],
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        second / 3_600,
        second / 60 % 60,
        second % 60,
    )
    .expect("a date fits until the year 10000");
    text
}

/// Year, month and day of a day of the Unix time. Years are taken to begin in March, so that the day
/// that comes and goes is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -R -d @SECOND` says.
    #[test]
    fn dates() {
        for (second, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(str::from_utf8(&format(second)).unwrap(), date);
        }
    }
}
