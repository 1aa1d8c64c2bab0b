use orkestra::{
    clock::derive_event_id,
    message::{MessageError, parse_message_id},
};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct File {
    derived: Vec<Derived>,
    valid: Vec<Valid>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Derived {
    command_id: Uuid,
    index: u32,
    event_id: Uuid,
}

#[derive(Deserialize)]
struct Valid {
    text: String,
    id: String,
}

#[derive(Deserialize)]
struct Invalid {
    text: String,
}

#[test]
fn event_ids_follow_from_the_command_and_the_index() {
    for row in crate::read::<File>("ids.json").derived {
        let id = derive_event_id(row.command_id, row.index);
        assert_eq!(id, row.event_id, "{} of {}", row.index, row.command_id);
    }
}

#[test]
fn ids_are_uuids_in_any_case() {
    for row in crate::read::<File>("ids.json").valid {
        let id = parse_message_id(&row.text).unwrap();
        assert_eq!(id.to_string(), row.id);
    }
}

#[test]
fn ids_that_are_none_are_refused() {
    for row in crate::read::<File>("ids.json").invalid {
        let result = parse_message_id(&row.text);
        assert!(
            matches!(result, Err(MessageError::InvalidId { .. })),
            "{:?} is taken",
            row.text
        );
    }
}
