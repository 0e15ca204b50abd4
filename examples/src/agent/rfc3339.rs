//! Times as people and programs write them.

use std::time::Duration;

use svc_core::time::to_rfc3339;

/// The time so long after 1970, in UTC, to the millisecond.
pub(super) fn rfc3339(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let mut text = to_rfc3339(seconds);
    // In front of the zone.
    text.pop();
    format!("{text}.{:03}Z", since_1970.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_stand_in_front_of_the_zone() {
        let time = Duration::from_millis(951_782_399_007);
        assert_eq!(rfc3339(time), "2000-02-28T23:59:59.007Z");
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000Z");
    }
}
