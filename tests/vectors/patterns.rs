use orkestra::topic::Pattern;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    pattern: String,
    topic: String,
    matches: bool,
}

#[test]
fn patterns_match_as_a_broker_does() {
    let rows: Vec<Row> = crate::read("patterns.json");
    assert!(rows.len() > 100);

    for row in rows {
        let pattern = Pattern::new(&row.pattern).unwrap();
        assert_eq!(
            pattern.matches(&row.topic),
            row.matches,
            "{pattern} and {}",
            row.topic
        );
    }
}
