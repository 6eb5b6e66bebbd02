//! Dates and times as they stand in JSON.

/// Microseconds since 1970 in UTC of an ISO 8601 date or date and time, or `None` when the text is anything else.
///
/// `YYYY-MM-DD`, then optionally `T` or a space and `hh:mm[:ss[.fraction]]`, then optionally `Z`, `±hh`, `±hhmm` or `±hh:mm`. Years 1 to
/// 9999, offsets up to ±15:59, no leap seconds; digits beyond microseconds are cut off. `rowcall.iso_instant` in SQL reads
/// exactly the same texts.
pub(super) fn parse(text: &str) -> Option<i64> {
    let mut rest = Cursor(text.as_bytes());
    let year = rest.digits(4)?;
    rest.byte(b'-')?;
    let month = rest.digits(2)?;
    rest.byte(b'-')?;
    let day = rest.digits(2)?;
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let mut micros = days_since_epoch(year, month, day) * 86_400_000_000;
    if rest.0.is_empty() {
        return Some(micros);
    }
    rest.byte(b'T').or_else(|| rest.byte(b' '))?;
    let hour = rest.digits(2)?;
    rest.byte(b':')?;
    let minute = rest.digits(2)?;
    let (mut second, mut fraction) = (0, 0);
    if rest.byte(b':').is_some() {
        second = rest.digits(2)?;
        if rest.byte(b'.').is_some() {
            fraction = rest.fraction()?;
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    micros += ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    micros -= rest.offset_minutes()? * 60_000_000;
    rest.0.is_empty().then_some(micros)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self, wanted: u8) -> Option<()> {
        let rest = self.0.strip_prefix(&[wanted])?;
        self.0 = rest;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(number(digits))
    }

    /// One to nine digits after the point, as microseconds.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let kept = &digits[..length.min(6)];
        let scale = u32::try_from(6 - kept.len()).ok()?;
        Some(number(kept) * 10_i64.pow(scale))
    }

    fn offset_minutes(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.byte(b'Z').is_some() {
            return Some(0);
        }
        let sign = if self.byte(b'+').is_some() {
            1
        } else {
            self.byte(b'-')?;
            -1
        };
        let hours = self.digits(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            let _ = self.byte(b':');
            self.digits(2)?
        };
        (hours <= 15 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

fn number(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`, for years of our era: years start in March, so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_postgresql_writes_into_json() {
        let at = |text: &str| {
            let instant: jiff::Timestamp = text.parse().unwrap();
            Some(instant.as_microsecond())
        };
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(
            parse("2024-02-29T23:59:59.123456+00:00"),
            at("2024-02-29T23:59:59.123456Z")
        );
        assert_eq!(
            parse("2024-01-15T10:30:00+05:30"),
            at("2024-01-15T05:00:00Z")
        );
        assert_eq!(parse("2024-01-15 10:30-03"), at("2024-01-15T13:30:00Z"));
        assert_eq!(parse("0001-01-01T00:00:00"), at("0001-01-01T00:00:00Z"));
        assert_eq!(parse("9999-12-31"), Some(253_402_214_400_000_000));
        assert_eq!(
            parse("2024-01-15T10:30:00.1234569Z"),
            at("2024-01-15T10:30:00.123456Z")
        );
    }

    #[test]
    fn everything_else_is_text() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-01-15T",
            "2024-01-15T24:00",
            "2024-01-15T10",
            "0000-01-01",
            "2024-01-15T10:30:60",
            "2024-01-15T10:30:00.",
            "2024-01-15T10:30:00+16:00",
            "2024-01-15x",
            "10000-01-01",
            "2024-01-15T10:30:00.1234567890",
            "２０２４-01-15",
            "2024-01-15T10:30Zx",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
