//! What a statement really did, as its plan tells: tests assert rows, never times.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Rows counted while a statement ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Tables that were read through.
    pub sequential: Vec<String>,
    /// Rows that index scans came by, whether they were wanted or not.
    pub read: f64,
    /// Rows that went into sorts.
    pub sorted: f64,
    /// The plan itself, for messages.
    pub text: String,
}

impl Plan {
    /// Runs a statement with a plan for all parameters and reads its plan. `types` and `values` are written as in SQL, with
    /// commas between them.
    pub async fn of(client: &Client, sql: &str, types: &str, values: &str) -> Self {
        let run = format!(
            "set plan_cache_mode = force_generic_plan; prepare examined ({types}) as {sql}; \
             explain (analyze, timing off, format json) execute examined ({values}); deallocate examined"
        );
        let answer = client.simple_query(&run).await.expect("a plan");
        let text = answer
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .expect("the plan is a row");
        let parsed: Value = serde_json::from_str(text).expect("the plan is JSON");
        let mut plan = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        plan.add(&parsed[0]["Plan"]);
        plan
    }

    fn add(&mut self, node: &Value) {
        let kind = node["Node Type"].as_str().unwrap_or_default();
        let children = node["Plans"].as_array().map_or(&[][..], Vec::as_slice);
        if kind == "Seq Scan" {
            self.sequential.push(node["Relation Name"].to_string());
        } else if kind.contains("Index") {
            self.read += rows(node, "Actual Rows") + rows(node, "Rows Removed by Filter");
        } else if kind.contains("Sort") {
            self.sorted += children
                .iter()
                .map(|child| rows(child, "Actual Rows"))
                .sum::<f64>();
        }
        for child in children {
            self.add(child);
        }
    }
}

/// A count of a node, which is given per loop.
fn rows(node: &Value, count: &str) -> f64 {
    let number = |name: &str| node[name].as_f64().unwrap_or_default();
    number(count) * number("Actual Loops")
}
