//! How fast a replay goes: slowly first, faster while all goes well.

/// Dead letters per second, step by step.
pub const RATES: [f32; 9] = [1.0, 2.0, 5.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// Every replay begins with it, and begins with it again when it is resumed.
pub const FIRST_RATE: f32 = RATES[0];
pub const HIGHEST_RATE: f32 = RATES[RATES.len() - 1];
/// Successes in a row that make it faster.
pub(super) const STREAK: i64 = 20;
/// It stops itself when more than half of the last ones failed.
pub(super) const LOOK_BACK: i64 = 20;
pub(super) const LEAST_TO_JUDGE: i64 = 5;

/// The next step above `rate`, never above `most`.
pub(super) fn faster(rate: f32, most: f32) -> f32 {
    RATES
        .into_iter()
        .find(|step| *step > rate)
        .unwrap_or(most)
        .min(most)
}

/// Seconds that so many dead letters take if all of them succeed at once.
pub fn seconds_for(dead_letters: u64, most: f32) -> f64 {
    let (mut left, mut seconds, mut rate) = (dead_letters as f64, 0.0, FIRST_RATE.min(most));
    loop {
        let next = faster(rate, most);
        if next <= rate || left <= STREAK as f64 {
            return seconds + left / f64::from(rate);
        }
        left -= STREAK as f64;
        seconds += STREAK as f64 / f64::from(rate);
        rate = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_in_steps_up_to_the_limit() {
        assert_eq!(faster(1.0, 50.0), 2.0);
        assert_eq!(faster(5.0, 10.0), 10.0);
        assert_eq!(faster(10.0, 10.0), 10.0);
        assert_eq!(faster(1000.0, 1000.0), 1000.0);
    }

    #[test]
    fn the_time_is_the_sum_of_the_steps() {
        assert_eq!(seconds_for(1, 50.0), 1.0);
        // 20 s, 10 s, 4 s, 1 s, then 920 at 50/s.
        assert_eq!(seconds_for(1000, 50.0).round(), 53.0);
        assert_eq!(seconds_for(10, 0.5), 20.0);
    }
}
