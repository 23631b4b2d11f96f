//! RFC 3339 times of the usual shapes; leap seconds, lower case and the edges of the calendar are Python's.

use std::io::Write;

#[derive(Clone, Copy)]
pub struct Time {
    pub unix: i64,
    micros: i64,
}

const DAY: i64 = 86_400;
const LONGEST: usize = 64;

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

/// Days since 1970 of a date (Howard Hinnant's algorithm).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

pub fn parse(text: &[u8]) -> Option<Time> {
    if text.len() < 20 || text.len() > LONGEST {
        return None;
    }
    let (start, mut rest) = text.split_at(19);
    if [4, 7, 10, 13, 16].map(|at| start[at]) != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(&start[..4])?, number(&start[5..7])?, number(&start[8..10])?);
    let (hour, minute, second) = (number(&start[11..13])?, number(&start[14..16])?, number(&start[17..])?);
    let in_range = (2..=9998).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range || date(days(year, month, day)) != (year, month, day) {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = fraction.iter().take_while(|c| c.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        let digits = fraction[..count].iter().chain(std::iter::repeat(&b'0'));
        micros = digits.take(6).fold(0, |n, c| n * 10 + i64::from(c - b'0'));
        rest = &fraction[count..];
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    Some(Time { unix: days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset, micros })
}

/// A number with so many digits.
fn put(mut number: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
}

impl Time {
    /// `"created":N,"created_time":"..."`, in UTC.
    pub fn write_created(&self, out: &mut Vec<u8>) {
        let (year, month, day) = date(self.unix.div_euclid(DAY));
        let seconds = self.unix.rem_euclid(DAY);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        // Writing to a Vec can't fail.
        let _ = write!(out, "\"created\":{},\"created_time\":\"", self.unix);
        put(year, 4, out);
        for (before, number) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
            out.push(before);
            put(number, 2, out);
        }
        if self.micros != 0 {
            out.push(b'.');
            put(self.micros, 6, out);
        }
        out.extend_from_slice(b"Z\"");
    }
}
