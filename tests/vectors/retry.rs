use orkestra::retry::{RetryError, RetryPolicy};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    delays: Vec<DelayRow>,
    wants: Vec<WantsRow>,
    invalid: Vec<InvalidRow>,
}

#[derive(Deserialize)]
struct DelayRow {
    policy: RetryPolicy,
    retry: u32,
    draw: f64,
    delay_us: u128,
}

#[derive(Deserialize)]
struct WantsRow {
    policy: RetryPolicy,
    error_types: Vec<String>,
    wants: bool,
}

#[derive(Deserialize)]
struct InvalidRow {
    policy: RetryPolicy,
    field: String,
}

#[test]
fn delays_follow_from_policy_retry_and_draw() {
    for row in crate::read::<File>("retry.json").delays {
        row.policy.check().unwrap();
        let delay = row.policy.delay(row.retry, row.draw).as_micros();
        assert_eq!(
            delay, row.delay_us,
            "retry {} with {} of {:?}",
            row.retry, row.draw, row.policy
        );
    }
}

#[test]
fn error_types_decide_whether_to_try_again() {
    for row in crate::read::<File>("retry.json").wants {
        let wants = row.policy.wants(&row.error_types);
        assert_eq!(
            wants, row.wants,
            "{:?} with {:?}",
            row.error_types, row.policy
        );
    }
}

#[test]
fn a_number_out_of_its_range_is_named() {
    for row in crate::read::<File>("retry.json").invalid {
        let Err(RetryError::InvalidPolicy { field, .. }) = row.policy.check() else {
            panic!("{:?} is taken", row.policy);
        };
        assert_eq!(field, row.field);
    }
}
