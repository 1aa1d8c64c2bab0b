use orkestra::topic::topic_for;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "type")]
    type_name: String,
    app_prefix: Option<String>,
    topic: String,
}

#[test]
fn type_names_have_these_topics() {
    let rows: Vec<Row> = crate::read("topics.json");
    assert!(rows.len() > 100);

    for row in rows {
        let prefix = row.app_prefix.unwrap_or_default();
        let topic = topic_for(&row.type_name, &prefix).unwrap_or_default();
        assert_eq!(topic, row.topic, "{} without {prefix}", row.type_name);
    }
}
